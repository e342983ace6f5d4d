"""What is kept about data is found again, and nothing breaks when it cannot be."""

import os
from pathlib import Path

import pytest

from edgedistill.distill import memory
from edgedistill.distill.memory import recall, remember


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches" / "edgedistill" / "data"


def test_what_is_kept_is_found_again() -> None:
    assert recall("a", dict[str, int]) is None
    remember("a", {"x": 1})
    remember("b", {"x": 2})
    assert (recall("a", dict[str, int]), recall("b", dict[str, int])) == ({"x": 1}, {"x": 2})
    remember("a", {"x": 3})
    assert recall("a", dict[str, int]) == {"x": 3}


def test_the_home_folder_is_where_it_is_kept_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    remember("a", 1)
    assert len(list((tmp_path / "home" / ".cache" / "edgedistill" / "data").iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"{", b'{"x": "text"}', b"[1]", b"\xff", b'{"\xff": 1}', b"[" * 5000, b'{"x": ' + b"9" * 5000])
def test_a_spoiled_file_is_nothing(folder: Path, content: bytes) -> None:
    remember("a", {"x": 1})
    next(folder.iterdir()).write_bytes(content)
    assert recall("a", dict[str, int]) is None


def test_another_format_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    remember("a", 1)
    monkeypatch.setattr(memory, "FORMAT", memory.FORMAT + 1)
    assert recall("a", int) is None


def test_a_folder_that_cannot_be_written_is_no_error(folder: Path) -> None:
    folder.parent.parent.mkdir()
    folder.parent.write_text("a file where the folder should be")
    remember("a", 1)
    assert recall("a", int) is None
    assert os.path.isfile(folder.parent)
