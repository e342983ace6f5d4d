"""`edgedistill cache`: tables, checks and removal, on a cache of a real training."""

import json
import os
import time
from pathlib import Path

import pytest
from tiny_network import RECIPE

from edgedistill.cli import run
from edgedistill.distill.cache import default_folder
from edgedistill.distill.cache.store import Store, caches_in

TAUGHT = """
[teacher]
model = "python:tiny_network:make"
gate = false
[[distill]]
loss = "kd"
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """The cache of a short training, in the default folder."""
    monkeypatch.chdir(tmp_path)
    teacher = tmp_path / "teacher.toml"
    teacher.write_text(RECIPE)
    assert run(["distill", str(teacher), "--out", "teacher", "--json"]) == 0
    (tmp_path / "recipe.toml").write_text(RECIPE + TAUGHT.replace("gate", 'weights = "teacher/student.safetensors"\ngate'))
    assert run(["distill", "recipe.toml", "--json"]) == 0
    capsys.readouterr()
    (path,) = caches_in(default_folder())
    return path


def test_info_verify_prune(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cache", "info"]) == 0
    shown = capsys.readouterr().out
    assert cache.name[:12] in shown
    assert "python:tiny_network:make" in shown
    assert "1 of 1" in shown
    assert run(["cache", "info", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["caches"]
    assert (entry["views_filled"], entry["precision"], entry["data"], entry["problem"]) == (1, "fp16", "embedded", None)

    assert run(["cache", "verify", cache.name[:6], "--sample", "16"]) == 0
    assert "answers hold" in capsys.readouterr().out
    (cache / "logits.bin").write_bytes(b"\x40" * (cache / "logits.bin").stat().st_size)
    assert run(["cache", "verify", "all", "--json"]) == 1
    assert "an answer differs by" in json.loads(capsys.readouterr().out)["verdicts"][0]["problem"]

    assert run(["cache", "prune", "--all", "--dry-run"]) == 0
    assert cache.is_dir()
    store = Store(cache)
    assert run(["cache", "prune", "--all", "--yes"]) == 0
    assert "is in use by a training and stays" in capsys.readouterr().err
    assert cache.is_dir()
    store.in_use.close()
    assert run(["cache", "prune", cache.name[:12], "--yes"]) == 0
    assert not cache.exists()
    assert sorted(path.name for path in cache.parent.iterdir()) == ["locks", "plain"]
    assert not list((cache.parent / "plain").iterdir())


def fake_caches(folder: Path) -> None:
    for digit, days in (("a", 40), ("b", 1)):
        path = folder / (digit * 64)
        path.mkdir(parents=True)
        (path / "index.json").write_text("{")
        os.utime(path / "index.json", (time.time() - days * 86_400,) * 2)


def test_old_caches_are_removed_by_age(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_caches(tmp_path)
    assert run(["cache", "prune", "--folder", str(tmp_path), "--older-than", "30", "--yes"]) == 0
    assert [path.name[:1] for path in caches_in(tmp_path)] == ["b"]


def test_removal_asks_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import io
    import sys

    fake_caches(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"n\n")))
    assert run(["cache", "prune", "--folder", str(tmp_path), "--all"]) == 130
    assert len(list(caches_in(tmp_path))) == 2


def test_broken_caches_are_listed_with_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_caches(tmp_path)
    assert run(["cache", "info", "--folder", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("│ broken") == 2
    assert "has no index.json that can be read" in shown.err


def test_an_empty_folder_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cache", "info", "--folder", str(tmp_path / "none")]) == 0
    assert run(["cache", "verify", "all", "--folder", str(tmp_path / "none")]) == 0
    assert run(["cache", "prune", "--all", "--folder", str(tmp_path / "none")]) == 0
    assert "nothing to remove" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["prune"], 2, "give either fingerprints, --older-than or --all"),
        (["prune", "--all", "--older-than", "3"], 2, "give either fingerprints, --older-than or --all"),
        (["verify", "ff"], 1, "'ff' fits no cache"),
        (["verify", "all", "--sample", "0"], 2, "sample"),
    ],
)
def test_wrong_use(tmp_path: Path, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cache", *arguments, "--folder", str(tmp_path)]) == code
    assert message in capsys.readouterr().err
