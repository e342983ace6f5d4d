"""Runs: what a folder holds afterwards, reading it back, and when a training does not begin."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors

from edgedistill import metrics, recipe
from edgedistill.distill import loop, run, weights
from edgedistill.distill.data import open_splits
from edgedistill.errors import DataError, ModelError, RecipeError
from edgedistill.recipe import BornAgain, Recipe, Term


@pytest.fixture
def finished(tiny_recipe: Recipe, tmp_path: Path) -> Path:
    run.distill(tiny_recipe, tmp_path / "run")
    return tmp_path / "run"


def test_a_run_leaves_four_files(finished: Path) -> None:
    assert sorted(path.name for path in finished.iterdir()) == [loop.METRICS, run.RECIPE, run.RESULTS, run.STUDENT]


def test_the_saved_recipe_is_the_whole_recipe(finished: Path, tiny_recipe: Recipe) -> None:
    assert recipe.load(finished / run.RECIPE) == tiny_recipe


def test_results_are_those_of_the_saved_student(finished: Path) -> None:
    results = json.loads((finished / run.RESULTS).read_text())
    loaded = run.load(finished)
    splits = open_splits(loaded.recipe.data)
    logits = run.test_logits(loaded, splits)
    assert results["schema"] == 1
    assert results["student"]["accuracy"] == pytest.approx(metrics.accuracy(logits, splits.test.labels))
    assert results["data"]["images"] == {"train": 160, "validation": 100, "test": 100}
    low, high = results["student"]["accuracy_interval"]
    assert low < results["student"]["accuracy"] < high
    assert results["teacher"] is None


def test_validation_names_the_last_and_the_best_epoch(finished: Path) -> None:
    rows = [json.loads(line) for line in (finished / loop.METRICS).read_text().splitlines()]
    validation = json.loads((finished / run.RESULTS).read_text())["validation"]
    assert validation["last"] == rows[-1]["val_accuracy"]
    assert validation["best"] == max(row["val_accuracy"] for row in rows)
    assert rows[validation["best_epoch"] - 1]["val_accuracy"] == validation["best"]


def taught_by(folder: Path, student: Recipe) -> Recipe:
    return msgspec.structs.replace(
        student,
        teacher=recipe.Teacher(
            model="python:tiny_network:make", args={"dropout": 0.2}, weights=str(folder / run.STUDENT), licence="CC0-1.0"
        ),
        distill=(Term(loss="kd", temperature=4.0),),
        data=msgspec.structs.replace(student.data, train_limit=640),
        train=msgspec.structs.replace(student.train, epochs=4),
    )


def good_teacher(tiny_recipe: Recipe) -> Recipe:
    return msgspec.structs.replace(
        tiny_recipe,
        data=msgspec.structs.replace(tiny_recipe.data, train_limit=640),
        train=msgspec.structs.replace(tiny_recipe.train, epochs=4),
    )


def test_a_taught_student_s_file_holds_nothing_of_the_teacher(tiny_recipe: Recipe, tmp_path: Path) -> None:
    run.distill(good_teacher(tiny_recipe), tmp_path / "teacher")
    results = run.distill(taught_by(tmp_path / "teacher", tiny_recipe), tmp_path / "student")
    with safetensors.safe_open(tmp_path / "student" / run.STUDENT, framework="pt") as file:
        names = list(file.keys())
    with safetensors.safe_open(tmp_path / "teacher" / run.STUDENT, framework="pt") as file:
        assert names == list(file.keys())  # the same architecture: not one tensor more
    assert results["teacher"]["licence"] == "CC0-1.0"
    assert len(results["teacher"]["sha256"]) == 64
    assert results["teacher"]["accuracy"] > 0.2
    assert 0 < results["teacher"]["val_accuracy"] <= 1


def test_a_teacher_near_chance_stops_the_run_before_training(tiny_recipe: Recipe, tmp_path: Path) -> None:
    from edgedistill.distill import networks

    classes = open_splits(tiny_recipe.data).classes
    untrained = networks.build(recipe.Teacher(model="python:tiny_network:make", input_size=16), classes)
    (tmp_path / "teacher").mkdir()
    weights.save(untrained.module, tmp_path / "teacher" / run.STUDENT, {"input_size": 16})
    steps: list[str] = []
    with pytest.raises(ModelError, match=r"right on \d+\.\d% of the validation images, chance is 10\.0%"):
        run.distill(taught_by(tmp_path / "teacher", tiny_recipe), tmp_path / "run", progress=lambda text, done, total: steps.append(text))
    assert not any(text.startswith("training") for text in steps)


def test_a_folder_in_use_is_not_overwritten(finished: Path, tiny_recipe: Recipe) -> None:
    before = (finished / run.STUDENT).read_bytes()
    with pytest.raises(DataError, match="is not empty; give --resume"):
        run.distill(tiny_recipe, finished)
    assert (finished / run.STUDENT).read_bytes() == before


def test_resuming_a_finished_run_returns_its_results_without_training(finished: Path, tiny_recipe: Recipe) -> None:
    steps: list[str] = []
    results = run.distill(tiny_recipe, finished, resume=True, progress=lambda text, done, total: steps.append(text))
    assert results == json.loads((finished / run.RESULTS).read_text())
    assert steps == []


def test_a_loss_that_needs_a_teacher_is_refused_before_anything_is_written(tiny_recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="needs a teacher"):
        run.distill(msgspec.structs.replace(tiny_recipe, distill=(Term(loss="kd"),)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_smoke_is_short_and_leaves_the_rest_alone(tiny_recipe: Recipe, tmp_path: Path) -> None:
    full = msgspec.structs.replace(tiny_recipe, train=msgspec.structs.replace(tiny_recipe.train, epochs=100, batch_size=128))
    smoke = full.smoke()
    results = run.distill(smoke, tmp_path / "run")
    assert results["data"]["images"]["train"] == 128
    assert (smoke.train.epochs, smoke.student, smoke.data.augment) == (1, full.student, full.data.augment)


@pytest.mark.parametrize(("state", "message"), [("empty", "has no student.safetensors"), ("unfinished", "it is unfinished")])
def test_reading_back_what_is_no_finished_run(tmp_path: Path, state: str, message: str) -> None:
    if state == "unfinished":
        (tmp_path / loop.CHECKPOINT).write_bytes(b"")
    with pytest.raises(DataError, match=message):
        run.load(tmp_path)


def test_the_student_read_back_has_its_preprocessing(finished: Path) -> None:
    loaded = run.load(finished)
    assert (loaded.preprocess.height, loaded.preprocess.resize, loaded.preprocess.mean) == (16, "crop", None)
    assert loaded.student.classes is not None
    assert len(loaded.student.classes) == 10
    card = weights.read_card(finished / run.STUDENT)
    assert np.allclose(card["mean"], 128 / 255)


def test_a_schedule_is_not_left_out_silently(tiny_recipe: Recipe, tmp_path: Path) -> None:
    scheduled = msgspec.structs.replace(tiny_recipe, schedule=BornAgain())
    with pytest.raises(RecipeError, match="several trainings"):
        run.distill(scheduled, tmp_path / "run")
