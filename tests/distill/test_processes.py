"""Two processes on the CPU train as one: the same weights, each image once, no process waits for one that failed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import safetensors.torch
import torch

from edgedistill import recipe
from edgedistill.distill import loop, run
from edgedistill.recipe import Recipe

HERE = Path(__file__).parent
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}


def torchrun(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run two processes of a script or of `-m MODULE` together."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    everything = {**os.environ, **ENVIRONMENT, **environment}
    return subprocess.run([*launcher, *map(str, command)], env=everything, capture_output=True, text=True, timeout=120, check=False)


def written(wanted: Recipe, path: Path) -> Path:
    path.write_text(recipe.encode(wanted))
    return path


@pytest.fixture
def whole(tiny_recipe: Recipe) -> Recipe:
    """A training of a network whose answers do not depend on how a batch is shared, without dropout."""
    student = msgspec.structs.replace(tiny_recipe.student, model="python:tiny_network:without_norm", args={})
    return msgspec.structs.replace(tiny_recipe, student=student)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / run.STUDENT)


def rows_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / loop.METRICS).read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_train_to_the_same_weights_as_one_and_see_each_image_once(whole: Recipe, tmp_path: Path) -> None:
    run.distill(whole, tmp_path / "one")
    done = torchrun(HERE / "processes.py", written(whole, tmp_path / "recipe.toml"), tmp_path / "two", tmp_path)
    assert done.returncode == 0, done.stderr
    one, two = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    for name in one:
        assert torch.allclose(one[name], two[name], atol=1e-6), name
    seen = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    for epoch in ("0", "1"):
        assert len(seen[0][epoch]) == len(seen[1][epoch]) == 80
        assert sorted(seen[0][epoch] + seen[1][epoch]) == list(range(160))
    for a, b in zip(rows_of(tmp_path / "one"), rows_of(tmp_path / "two"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-6)
        assert [a["train_accuracy"], a["val_accuracy"]] == [b["train_accuracy"], b["val_accuracy"]]
        assert a["val_loss"] == pytest.approx(b["val_loss"], abs=1e-6)


@pytest.mark.slow
def test_two_processes_resume_to_the_same_bits(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """With dropout: each process goes on with its own random state, in the middle of an epoch, with batches in pieces."""
    train = msgspec.structs.replace(tiny_recipe.train, checkpoint_steps=4, accumulate=2, ema=0.9)
    file = written(msgspec.structs.replace(tiny_recipe, train=train), tmp_path / "recipe.toml")
    whole = torchrun(HERE / "processes.py", file, tmp_path / "whole", tmp_path)
    assert whole.returncode == 0, whole.stderr
    cut = torchrun(HERE / "processes.py", file, tmp_path / "cut", tmp_path, STOP_AT="17")
    assert cut.returncode != 0
    assert not (tmp_path / "cut" / run.STUDENT).exists()
    resumed = torchrun(HERE / "processes.py", file, tmp_path / "cut", tmp_path, RESUME="1")
    assert resumed.returncode == 0, resumed.stderr
    a, b = weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut")
    assert all(torch.equal(a[name], b[name]) for name in a)
    timeless = [[{**row, "seconds": 0, "images_per_second": 0} for row in rows_of(tmp_path / name)] for name in ("whole", "cut")]
    assert timeless[0] == timeless[1]
