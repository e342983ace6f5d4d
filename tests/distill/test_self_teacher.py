"""The student's own average as a teacher: what it answers, exact resume, and what such a recipe may not say."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import safetensors.torch
import torch
from lightning_fabric import Fabric

from edgedistill import pipeline, recipe
from edgedistill.distill import loop, networks, run
from edgedistill.distill.data import open_splits
from edgedistill.distill.loader import View, ViewBatch, collate
from edgedistill.distill.self_teacher import SelfTeacher, check_self_teacher
from edgedistill.errors import RecipeError
from edgedistill.recipe import Recipe, Teacher, Term


@pytest.fixture
def own(tiny_recipe: Recipe) -> Recipe:
    """The tiny recipe taught by its own average from the second epoch on."""
    terms = (Term(loss="cross_entropy"), Term(loss="kd", temperature=2.0, epochs=(1, 2)))
    train = msgspec.structs.replace(tiny_recipe.train, ema=0.9, checkpoint_steps=4)
    return msgspec.structs.replace(tiny_recipe, teacher=Teacher(model="ema"), distill=terms, train=train)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / run.STUDENT)


def same_bits(first: Path, second: Path) -> bool:
    a, b = weights_of(first), weights_of(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def some_views() -> ViewBatch:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (5, 16, 16, 3), generator=generator, dtype=torch.uint8).numpy()
    return collate([View(image, 0, i, i, 0, 1.0) for i, image in enumerate(pixels)])


def test_it_answers_with_the_average_s_weights_of_the_moment(own: Recipe) -> None:
    network = networks.build(own.student, tuple("abcdefghij"))
    average = replace(network, module=networks.build(own.student, tuple("abcdefghij")).module.train())
    teacher, views = SelfTeacher(average, Fabric(accelerator="cpu", devices=1)), some_views()
    answered = teacher.answer(views, ["0"])
    assert torch.equal(answered.logits, average.module(average.feed(views.views)))
    assert torch.equal(answered.features["0"], average.module[0](average.feed(views.views)))  # type: ignore[operator]
    assert not answered.logits.requires_grad
    assert not average.module.training  # no dropout, running means
    with torch.no_grad():
        average.module[6].bias += 1.0  # type: ignore[operator]
    assert torch.allclose(teacher.answer(views).logits, answered.logits + 1.0, atol=1e-5)
    assert (teacher.facts["model"], teacher.facts["sha256"], teacher.facts["input_size"]) == ("ema", "", 16)


def test_the_first_step_s_teacher_is_the_student_as_it_begins(own: Recipe, tmp_path: Path) -> None:
    """Both are the untrained network, one with its dropout: the term is small, and not 0 once the student moves away."""
    still = msgspec.structs.replace(
        own,
        student=msgspec.structs.replace(own.student, args={}),
        distill=(Term(loss="kd"),),
        train=msgspec.structs.replace(own.train, ema=0.999, epochs=1),
    )
    run.distill(still, tmp_path / "run")
    first = run.load(tmp_path / "run").results["student"]["accuracy"]
    assert first < 0.35  # it has learned from itself alone, which knew nothing


def test_it_changes_what_is_learned(own: Recipe, tmp_path: Path) -> None:
    run.distill(own, tmp_path / "own")
    alone = msgspec.structs.replace(own, teacher=None, distill=own.distill[:1])
    run.distill(alone, tmp_path / "alone")
    assert not same_bits(tmp_path / "own", tmp_path / "alone")
    names = [set(row["terms"]) for row in map(msgspec.json.decode, (tmp_path / "own" / loop.METRICS).read_bytes().splitlines())]
    assert names == [{"cross_entropy"}, {"cross_entropy", "kd"}]


@pytest.mark.parametrize("step", [3, 8, 14])
def test_a_run_interrupted_at_any_step_ends_with_the_same_bits(own: Recipe, tmp_path: Path, step: int) -> None:
    def stop(text: str, done: int, total: int) -> None:
        if text.startswith("training") and done == step:
            raise KeyboardInterrupt

    always = msgspec.structs.replace(own, distill=(Term(loss="cross_entropy"), Term(loss="kd")))
    run.distill(always, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run.distill(always, tmp_path / "cut", progress=stop)
    run.distill(always, tmp_path / "cut", resume=True)
    assert same_bits(tmp_path / "whole", tmp_path / "cut")


def test_results_and_provenance_name_it(own: Recipe, tmp_path: Path) -> None:
    said: list[str] = []
    results = run.distill(own, tmp_path / "run", say=said.append)
    assert not any("teacher" in line for line in said)  # nothing could be measured before the training
    taught_by, student = results["teacher"], results["student"]
    assert (taught_by["model"], taught_by["accuracy"], taught_by["val_accuracy"]) == (
        "ema",
        student["accuracy"],
        results["validation"]["last"],
    )
    assert run.finished(tmp_path / "run", own) == results
    finished = run.load(tmp_path / "run")
    named = pipeline.provenance(finished, open_splits(own.data)).teacher
    assert named is not None
    assert (named.model, named.licence_decision) == ("ema", "allowed: the student itself at an earlier time")


def test_terms_on_features_compare_the_layers_of_both(own: Recipe, tmp_path: Path) -> None:
    hint = Term(loss="hint", layers={"2": "2"})
    results = run.distill(msgspec.structs.replace(own, distill=(*own.distill, hint)), tmp_path / "run")
    assert results["teacher"]["model"] == "ema"


OTHER = Teacher(model="python:tiny_network:make")


@pytest.mark.parametrize(
    ("teacher", "ema", "message"),
    [
        (Teacher(model="ema"), None, "there is none; set train.ema"),
        ((Teacher(model="ema"), OTHER), 0.9, "teaches alone; take the other"),
        (Teacher(model="ema", calibrate=True), 0.9, "has no calibrate; take that out"),
        (Teacher(model="ema", probe=True, weights="w.safetensors"), 0.9, "has no weights, probe; take that out"),
        (Teacher(model="ema", mapping={"a": "b"}), 0.9, "has no mapping; take that out"),
    ],
)
def test_what_such_a_recipe_may_not_say(own: Recipe, teacher: Any, ema: float | None, message: str, tmp_path: Path) -> None:
    bad = msgspec.structs.replace(own, teacher=teacher, train=msgspec.structs.replace(own.train, ema=ema))
    with pytest.raises(RecipeError, match=message):
        run.distill(bad, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_recipes_are_not_concerned(tiny_recipe: Recipe) -> None:
    check_self_teacher(tiny_recipe)
    assert not tiny_recipe.is_self_taught
    assert recipe.Recipe.plain(tiny_recipe).teachers == ()
