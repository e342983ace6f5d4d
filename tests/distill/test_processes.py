"""Two processes on the CPU train as one: the same weights, each image once, one cache, and none waits for one that failed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import safetensors.torch
import tiny_network
import torch

from edgedistill import recipe
from edgedistill.distill import loop, run
from edgedistill.recipe import Recipe, Term

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
NO_NORM = 'student.model="python:tiny_network:without_norm"'
HINT_STAGE = (
    Term(loss="hint", layers={"0": "0"}, epochs=(0, 1)),
    Term(loss="kd", epochs=(1, 2)),
    Term(loss="attention", layers={"1": "1"}, weight=0),
)
AUGMENT = "data.augment={flip = true, noise = 0.02}"


def start(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}
    line = [sys.executable, *map(str, command)]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=270, check=False)


def taught(folder: Path) -> Recipe:
    """A student with a teacher of 3 chunks of images and 2 views, whose answers are kept in folder/cache."""
    plain = recipe.decode(tiny_network.RECIPE, overrides=[NO_NORM, AUGMENT, "data.train_limit=640", "data.views=2", "train.epochs=2"])
    teacher = recipe.Teacher(model="python:tiny_network:without_norm", weights=str(folder / "teacher" / run.STUDENT), gate=False)
    terms = (Term(loss="kd", temperature=2.0), Term(loss="cross_entropy", weight=0.1))
    return msgspec.structs.replace(plain, teacher=teacher, distill=terms, cache=recipe.Cache(folder=str(folder / "cache")))


def write_recipes(folder: Path) -> None:
    """Write what processes.py trains."""
    train = ["train.epochs=2", "train.checkpoint_steps=4", "train.accumulate=2", "train.ema=0.9"]
    recipes = {
        "plain": recipe.decode(tiny_network.RECIPE, overrides=[NO_NORM, AUGMENT, "train.epochs=2"]),
        "dropout": recipe.decode(tiny_network.RECIPE, overrides=["student.args={dropout = 0.2}", *train]),
        "taught": taught(folder),
        "hinted": msgspec.structs.replace(taught(folder), distill=HINT_STAGE),
    }
    for name, each in recipes.items():
        (folder / f"{name}.toml").write_text(recipe.encode(each))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What two processes made of the recipes in one folder: see processes.py."""
    folder = tmp_path_factory.mktemp("two")
    run.distill(recipe.decode(tiny_network.RECIPE, overrides=[NO_NORM]), folder / "teacher")
    write_recipes(folder)
    done = start("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", HERE / "processes.py", folder)
    assert done.returncode == 0, done.stderr
    return folder


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / run.STUDENT)


def rows_of(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / loop.METRICS).read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in ("seconds", "images_per_second")} for row in rows]


def seen_by(folder: Path, rank: int) -> dict[str, dict[str, list[int]]]:
    seen: dict[str, dict[str, list[int]]] = json.loads((folder / f"seen-{rank}.json").read_text())
    return seen


def test_two_processes_train_to_the_same_weights_as_one(two: Path, tmp_path: Path) -> None:
    run.distill(recipe.load(two / "plain.toml"), tmp_path / "one")
    one, both = weights_of(tmp_path / "one"), weights_of(two / "plain")
    for name in one:
        assert torch.allclose(one[name], both[name], atol=1e-6), name
    for a, b in zip(rows_of(tmp_path / "one"), rows_of(two / "plain"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-6)
        assert [a["train_accuracy"], a["val_accuracy"]] == [b["train_accuracy"], b["val_accuracy"]]
        assert a["val_loss"] == pytest.approx(b["val_loss"], abs=1e-6)


def test_each_image_is_seen_once_an_epoch_by_one_of_them(two: Path) -> None:
    first, second = (seen_by(two, rank)["positions"] for rank in (0, 1))
    for epoch in ("0", "1"):
        assert len(first[epoch]) == len(second[epoch]) == 80
        assert sorted(first[epoch] + second[epoch]) == list(range(160))


def test_an_interrupted_training_of_two_goes_on_to_the_same_bits(two: Path) -> None:
    """With dropout, so that each process needs its own random state; within an epoch, with batches in pieces and an average."""
    a, b = weights_of(two / "whole"), weights_of(two / "cut")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert rows_of(two / "whole") == rows_of(two / "cut")


def test_both_fill_the_view_cache_without_gap_or_overlap(two: Path, tmp_path: Path) -> None:
    first, second = (seen_by(two, rank)["chunks"] for rank in (0, 1))
    assert sorted([*first, *second]) == [[view, chunk] for view in (0, 1) for chunk in (0, 1, 2)]
    assert [len(first), len(second)] == [4, 2]
    alone = msgspec.structs.replace(taught(two), cache=recipe.Cache(folder=str(tmp_path / "cache")))
    run.distill(alone, tmp_path / "one")
    (together,), (single,) = ([index.parent for index in cache.glob("*/index.json")] for cache in (two / "cache", tmp_path / "cache"))
    assert together.name == single.name
    assert (together / "logits.done").read_bytes() == b"\1" * 6 == (single / "logits.done").read_bytes()
    assert (together / "logits.bin").read_bytes() == (single / "logits.bin").read_bytes()


def test_parts_of_the_student_may_be_without_gradient_for_an_epoch(two: Path, tmp_path: Path) -> None:
    """A stage of hints trains the first layers alone: the processes must not wait for the last layer's gradient."""
    alone = msgspec.structs.replace(recipe.load(two / "hinted.toml"), cache=recipe.Cache(folder=str(tmp_path / "cache")))
    run.distill(alone, tmp_path / "one")
    one, both = weights_of(tmp_path / "one"), weights_of(two / "hinted")
    assert all(torch.allclose(one[name], both[name], atol=1e-5) for name in one)


def test_a_process_that_is_gone_ends_the_others_with_a_message(two: Path) -> None:
    lost = str(seen_by(two, 0)["lost"])
    assert lost.startswith("another process of this training is gone (")
    assert lost.endswith(f"The last good checkpoint is kept in {two / 'lost'}; the same command with --resume goes on there")
    assert not (two / "lost" / run.STUDENT).exists()
    assert "lost" not in seen_by(two, 1)


def test_the_command_starts_the_other_processes_itself_and_one_speaks(two: Path, tmp_path: Path) -> None:
    arguments = ["distill", two / "plain.toml", "--set", "train.devices=2", "--out", tmp_path / "run", "--json"]
    done = start("-m", "edgedistill.cli", *arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "tiny"
    assert done.stderr.count("training tiny") == 1
    for name, value in weights_of(tmp_path / "run").items():
        assert torch.equal(value, weights_of(two / "plain")[name]), name


def test_what_cannot_be_trained_ends_all_processes_with_one_message(two: Path) -> None:
    done = start("-m", "edgedistill.cli", "distill", two / "plain.toml", "--set", "train.devices=2", "--out", two / "plain")
    assert done.returncode == 1
    assert done.stderr.count("is not empty; give --resume") == 1
