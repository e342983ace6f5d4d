"""Students kept on the way: their files, their cards, and their use as teachers."""

from pathlib import Path

import msgspec
import pytest
import torch

from edgedistill import recipe
from edgedistill.distill import loop, networks, run, weights
from edgedistill.distill.data import open_splits
from edgedistill.distill.teachers import open_teacher
from edgedistill.recipe import Recipe, Term


@pytest.fixture
def trained(tiny_recipe: Recipe, tmp_path: Path) -> Path:
    kept = msgspec.structs.replace(tiny_recipe, train=msgspec.structs.replace(tiny_recipe.train, epochs=3, snapshots=(1, 3)))
    run.distill(kept, tmp_path / "run")
    return tmp_path / "run"


def test_the_named_epochs_are_kept_with_the_student_s_card(trained: Path) -> None:
    assert sorted(path.name for path in trained.glob("student-*")) == ["student-epoch-1.safetensors", "student-epoch-3.safetensors"]
    assert (trained / "student-epoch-3.safetensors").read_bytes() == (trained / run.STUDENT).read_bytes()
    assert (trained / "student-epoch-1.safetensors").read_bytes() != (trained / run.STUDENT).read_bytes()
    assert weights.read_card(trained / "student-epoch-1.safetensors") == weights.read_card(trained / run.STUDENT)
    assert not (trained / loop.CHECKPOINT).exists()


def test_a_snapshot_is_an_early_stopped_teacher(trained: Path, tiny_recipe: Recipe) -> None:
    file = trained / "student-epoch-1.safetensors"
    spec = recipe.Teacher(model="python:tiny_network:make", args={"dropout": 0.2}, weights=str(file))
    splits = open_splits(tiny_recipe.data)
    teacher = open_teacher(msgspec.structs.replace(tiny_recipe, teacher=spec, distill=(Term(loss="kd"),)), splits)
    assert teacher is not None
    assert (teacher.facts["input_size"], teacher.facts["model"]) == (16, spec.model)


def test_a_student_with_a_new_head_is_read_back_with_the_head_that_it_trained(trained: Path, tiny_recipe: Recipe, tmp_path: Path) -> None:
    student = msgspec.structs.replace(tiny_recipe.student, weights=str(trained / run.STUDENT), new_head=True)
    run.distill(msgspec.structs.replace(tiny_recipe, student=student), tmp_path / "second")
    first, second = (run.load(tmp_path / "second").student.module.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_new_head_begins_with_the_rest_of_the_weights(trained: Path) -> None:
    spec = recipe.Network(model="python:tiny_network:make", weights=str(trained / run.STUDENT), new_head=True)
    tensors = networks.build(spec, ("one", "two")).module.state_dict()
    source = networks.build(msgspec.structs.replace(spec, new_head=False), run.load(trained).student.classes or ()).module.state_dict()
    assert {name for name in source if not torch.equal(source[name], tensors[name])} == {"6.weight", "6.bias"}
    assert tensors["6.weight"].shape == (2, 64)
