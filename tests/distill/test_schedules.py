"""Schedules: what each stage is taught by, exact resume anywhere, and that the whole looks like any finished run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch

from edgedistill import metrics, pipeline, recipe
from edgedistill.bundle import sha256_of
from edgedistill.distill import loop, run, schedules, weights
from edgedistill.distill.data import open_splits
from edgedistill.distill.predict import predict
from edgedistill.errors import DataError, EdgeDistillError, ModelError, RecipeError
from edgedistill.postprocess import softmax
from edgedistill.recipe import BornAgain, Recipe, Recursive, Student, Teacher, Term

KD = (Term(loss="kd", weight=0.9, temperature=4.0), Term(loss="cross_entropy", weight=0.1, label_smoothing=0.2))


def changed(value: Recipe, **tables: Any) -> Recipe:
    """Return a recipe with other tables; a dictionary changes keys of a table."""
    new = {name: msgspec.structs.replace(getattr(value, name), **v) if isinstance(v, dict) else v for name, v in tables.items()}
    return msgspec.structs.replace(value, **new)


@pytest.fixture
def born_again(tiny_recipe: Recipe) -> Recipe:
    return changed(tiny_recipe, schedule=BornAgain(generations=3), distill=KD, train={"checkpoint_steps": 4}, cache={"enabled": False})


@pytest.fixture
def recursive(tiny_recipe: Recipe) -> Recipe:
    assistants = tuple(Student(model="python:tiny_network:make", args={"width": width}, input_size=20) for width in (12, 8))
    schedule = Recursive(assistants=assistants, epochs=1)
    return changed(tiny_recipe, schedule=schedule, distill=KD, train={"checkpoint_steps": 4}, cache={"enabled": False})


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """A trained teacher that is well above chance."""
    import tiny_network

    folder = tmp_path_factory.mktemp("teacher")
    overrides = ["student.args={width = 16}", "data.train_limit=640", "train.epochs=4"]
    run.distill(recipe.decode(tiny_network.RECIPE, overrides=overrides), folder / "run")
    return Teacher(model="python:tiny_network:make", args={"width": 16}, weights=str(folder / "run" / run.STUDENT), licence="MIT")


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / run.STUDENT)


def same_bits(first: Path, second: Path) -> bool:
    a, b = weights_of(first), weights_of(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def stage(folder: Path, name: str) -> Path:
    (found,) = (folder / run.STAGES).glob(f"*-{name}")
    return found


def without_times(results: dict[str, Any]) -> dict[str, Any]:
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in results["stages"]]
    return {**{key: value for key, value in results.items() if key != "seconds"}, "stages": rows}


def test_without_a_schedule_it_is_one_run(tiny_recipe: Recipe, tmp_path: Path) -> None:
    schedules.distill(tiny_recipe, tmp_path / "schedules")
    run.distill(tiny_recipe, tmp_path / "run")
    assert same_bits(tmp_path / "schedules", tmp_path / "run")
    assert not (tmp_path / "schedules" / run.STAGES).exists()


def test_each_generation_is_taught_by_the_one_before(born_again: Recipe, tmp_path: Path) -> None:
    results = schedules.distill(born_again, tmp_path)
    folders = sorted((tmp_path / run.STAGES).iterdir())
    assert [folder.name for folder in folders] == ["01-generation-1", "02-generation-2", "03-generation-3"]
    assert run.load(folders[0]).results["teacher"] is None
    for former, folder in zip(folders, folders[1:], strict=False):
        assert run.load(folder).results["teacher"]["sha256"] == sha256_of(former / run.STUDENT)
        assert recipe.load(folder / run.RECIPE).distill == KD
    assert [row["teacher"] for row in results["stages"]] == [None, "generation-1", "generation-2"]
    assert [row["seed"] for row in results["stages"]] == [0, 1, 2]


def test_the_first_generation_without_a_teacher_keeps_the_label_smoothing(born_again: Recipe, tmp_path: Path) -> None:
    first, second, _ = schedules.expand(born_again, tmp_path)
    assert first.recipe.distill == (Term(loss="cross_entropy", label_smoothing=0.2),)
    assert first.recipe.teacher is None
    assert first.recipe.schedule is None
    assert second.recipe.distill == born_again.distill


def test_generations_begin_differently_and_the_first_like_the_plain_control(born_again: Recipe, tmp_path: Path) -> None:
    still = changed(born_again, train={"epochs": 1, "lr": 1e-12, "weight_decay": 0.0}, schedule=BornAgain(generations=2))
    schedules.distill(still, tmp_path / "still")
    run.distill(still.plain(), tmp_path / "plain")
    first, second = (weights_of(stage(tmp_path / "still", f"generation-{number}"))["0.weight"] for number in (1, 2))
    assert torch.allclose(first, weights_of(tmp_path / "plain")["0.weight"], atol=1e-9)
    assert not torch.allclose(first, second, atol=1e-3)
