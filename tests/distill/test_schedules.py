"""Schedules: what each stage is taught by, exact resume anywhere, and that the whole looks like any finished run."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch

from edgedistill import evaluation, metrics, pipeline, recipe
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
    return {**{key: value for key, value in results.items() if key not in ("seconds", "cache")}, "stages": rows}


def test_without_a_schedule_it_is_one_run(tiny_recipe: Recipe, tmp_path: Path) -> None:
    schedules.distill(tiny_recipe, tmp_path / "schedules")
    run.distill(tiny_recipe, tmp_path / "run")
    assert same_bits(tmp_path / "schedules", tmp_path / "run")
    assert not (tmp_path / "schedules" / run.STAGES).exists()


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


def test_assistants_lie_between_teacher_and_student(recursive: Recipe, teacher: Teacher, tmp_path: Path) -> None:
    said: list[str] = []
    results = schedules.distill(changed(recursive, teacher=teacher), tmp_path, say=said.append)
    rows = results["stages"]
    assert [row["name"] for row in rows] == ["assistant-1", "assistant-2", "student"]
    assert [row["teacher"] for row in rows] == ["python:tiny_network:make", "assistant-1", "assistant-2"]
    assert [(row["epochs"], row["input_size"], row["seed"]) for row in rows] == [(1, 20, 0), (1, 20, 0), (2, 16, 0)]
    sizes = [row["parameters"] for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert "parameters: teacher python:tiny_network:make 0.00 M, assistant-1" in said[0]
    assert "do not descend" not in said[0]
    for name, former in (("assistant-2", "assistant-1"), ("student", "assistant-2")):
        taught_by = run.load(stage(tmp_path, name)).results["teacher"]
        assert taught_by["sha256"] == sha256_of(stage(tmp_path, former) / run.STUDENT)


def test_sizes_that_do_not_descend_are_said_before_any_training(recursive: Recipe, tmp_path: Path) -> None:
    said: list[str] = []

    def stop(text: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    assert isinstance(recursive.schedule, Recursive)
    upside_down = msgspec.structs.replace(recursive.schedule, assistants=recursive.schedule.assistants[::-1])
    with pytest.raises(KeyboardInterrupt):
        schedules.distill(changed(recursive, schedule=upside_down), tmp_path, say=said.append, progress=stop)
    assert "they do not descend" in said[0]


class Stopped:
    """Interrupts at the N-th training step of a stage, as Ctrl-C would; at step 0 between this stage and the one before."""

    def __init__(self, stage_name: str, step: int) -> None:
        self.stage, self.step = stage_name, step

    def progress(self, text: str, done: int, total: int) -> None:
        if text == f"training tiny-{self.stage}" and done == self.step:
            raise KeyboardInterrupt

    def say(self, text: str) -> None:
        if self.step == 0 and text.startswith("stage") and f", {self.stage}: python:" in text:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Recipe], Path]:
    """Train each schedule once without an interruption."""
    folder = tmp_path_factory.mktemp("whole")

    def train(name: str, wanted: Recipe) -> Path:
        schedules.distill(wanted, folder / name, resume=True)
        return folder / name

    return train


def test_each_generation_is_taught_by_the_one_before(born_again: Recipe, whole: Callable[[str, Recipe], Path]) -> None:
    folder_of_all = whole("born_again", born_again)
    results = run.load(folder_of_all).results
    folders = sorted((folder_of_all / run.STAGES).iterdir())
    assert [folder.name for folder in folders] == ["01-generation-1", "02-generation-2", "03-generation-3"]
    assert run.load(folders[0]).results["teacher"] is None
    for former, folder in pairwise(folders):
        assert run.load(folder).results["teacher"]["sha256"] == sha256_of(former / run.STUDENT)
        assert recipe.load(folder / run.RECIPE).distill == KD
    assert [row["teacher"] for row in results["stages"]] == [None, "generation-1", "generation-2"]
    assert [row["seed"] for row in results["stages"]] == [0, 1, 2]


@pytest.mark.parametrize(
    ("kind", "name", "step"),
    [
        ("born_again", "generation-2", 0),
        ("born_again", "generation-2", 17),
        ("recursive", "student", 5),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("born_again", "generation-1", 3),
                ("born_again", "generation-2", 4),
                ("born_again", "generation-3", 20),
                ("recursive", "assistant-1", 9),
                ("recursive", "assistant-2", 0),
                ("recursive", "student", 20),
            )
        ),
    ],
)
def test_a_schedule_interrupted_anywhere_ends_with_the_same_bits(
    kind: str, name: str, step: int, whole: Callable[[str, Recipe], Path], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    wanted: Recipe = request.getfixturevalue(kind)
    uninterrupted, stop = whole(kind, wanted), Stopped(name, step)
    with pytest.raises(KeyboardInterrupt):
        schedules.distill(wanted, tmp_path / "cut", progress=stop.progress, say=stop.say)
    with pytest.raises(DataError, match="it is unfinished: go on with"):
        run.load(tmp_path / "cut")
    results = schedules.distill(wanted, tmp_path / "cut", resume=True)
    assert same_bits(uninterrupted, tmp_path / "cut")
    assert without_times(results) == without_times(run.load(uninterrupted).results)
    assert not list((tmp_path / "cut").rglob(loop.CHECKPOINT))


def test_the_folder_looks_like_any_finished_run(born_again: Recipe, whole: Callable[[str, Recipe], Path], tmp_path: Path) -> None:
    folder = whole("born_again", born_again)
    assert sorted(path.name for path in folder.iterdir()) == [loop.METRICS, run.RECIPE, run.RESULTS, run.STAGES, run.STUDENT]
    finished = run.load(folder)
    assert finished.recipe == born_again
    assert finished.results == json.loads((folder / run.RESULTS).read_text())
    assert finished.results["recipe_sha256"] == weights.read_card(folder / run.STUDENT)["recipe_sha256"] == recipe.digest(born_again)
    assert (finished.results["name"], finished.results["seed"]) == ("tiny", 0)
    assert finished.results["seconds"] == pytest.approx(sum(row["seconds"] for row in finished.results["stages"]), abs=0.05)
    assert same_bits(folder, stage(folder, "generation-3"))
    evaluated = evaluation.evaluate(folder, source=None, file=None, progress=lambda text, done, total: None)
    assert evaluated["entries"][0]["accuracy"] == pytest.approx(finished.results["student"]["accuracy"])


def test_a_finished_schedule_is_left_alone(born_again: Recipe, whole: Callable[[str, Recipe], Path]) -> None:
    folder = whole("born_again", born_again)
    steps: list[str] = []
    results = schedules.distill(born_again, folder, resume=True, progress=lambda text, done, total: steps.append(text))
    assert steps == []
    assert run.finished(folder, born_again) == results
    with pytest.raises(DataError, match="is not empty; give --resume"):
        schedules.distill(born_again, folder)
    with pytest.raises(RecipeError, match="are of another recipe"):
        schedules.distill(changed(born_again, seed=1), folder, resume=True)


def test_the_ensemble_is_the_mean_of_the_generations_probabilities(born_again: Recipe, whole: Callable[[str, Recipe], Path]) -> None:
    folder = whole("born_again", born_again)
    ensemble = run.load(folder).results["ensemble"]
    splits = open_splits(born_again.data)
    runs = [run.load(path) for path in sorted((folder / run.STAGES).iterdir())]
    for images, key in ((splits.test, "accuracy"), (splits.validation, "val_accuracy")):
        mean = np.mean([softmax(predict(one.student, images, student=born_again.student)) for one in runs], axis=0)
        assert ensemble[key] == pytest.approx(np.mean(mean.argmax(1) == images.labels))
        if key == "accuracy":
            assert ensemble["nll"] == pytest.approx(-np.mean(np.log(mean[np.arange(len(images)), images.labels])), rel=1e-5)
    assert ensemble["networks"] == 3
    assert ensemble["parameters"] == 3 * runs[0].results["student"]["parameters"]
    assert set(ensemble) >= {"accuracy_interval", "ece", "macs"}
    assert metrics.accuracy_interval(ensemble["accuracy"], len(splits.test)) == pytest.approx(tuple(ensemble["accuracy_interval"]))


def test_smoke_trains_all_stages_though_their_teachers_are_near_chance(recursive: Recipe, tmp_path: Path) -> None:
    results = schedules.distill(recursive.smoke(), tmp_path / "run")
    assert len(results["stages"]) == 3
    assert all(row["epochs"] == 1 for row in results["stages"])


def test_the_plain_control_has_no_schedule(born_again: Recipe) -> None:
    assert born_again.plain().schedule is None


@pytest.mark.parametrize("kind", ["born_again", "recursive"])
def test_provenance_names_the_original_teacher(kind: str, teacher: Teacher, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    wanted = changed(request.getfixturevalue(kind), teacher=teacher, train={"epochs": 1})
    schedules.distill(wanted, tmp_path / "run")
    finished = run.load(tmp_path / "run")
    named = pipeline.provenance(finished, open_splits(wanted.data)).teacher
    assert named is not None
    assert (named.model, named.sha256, named.licence) == (teacher.model, sha256_of(Path(str(teacher.weights))), "MIT")
    assert finished.results["teacher"]["val_accuracy"] > 0.2
    assert run.finished(tmp_path / "run", wanted) is not None


def test_provenance_without_a_teacher_names_the_generation_before(born_again: Recipe, whole: Callable[[str, Recipe], Path]) -> None:
    folder = whole("born_again", born_again)
    named = pipeline.provenance(run.load(folder), open_splits(born_again.data)).teacher
    assert named is not None
    assert (named.model, named.sha256) == (born_again.student.model, sha256_of(stage(folder, "generation-2") / run.STUDENT))
    assert named.licence_decision == "allowed: the student itself at an earlier time"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"distill": (Term(loss="cross_entropy"),)}, RecipeError, "schedule born_again: no term learns from a teacher"),
        ({"distill": (Term(loss="kt"),)}, RecipeError, "unknown loss 'kt'"),
        ({"student": {"model": "python:tiny_network:mak"}}, ModelError, "has no attribute 'mak'"),
    ],
)
def test_bad_recipes_are_refused_before_anything_is_written(
    born_again: Recipe, change: dict[str, Any], error: type[EdgeDistillError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        schedules.distill(changed(born_again, **change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


SCRIPT = """
import hashlib, json, os, sys
from pathlib import Path
from edgedistill import recipe
from edgedistill.distill import networks, schedules
from edgedistill.distill.self_teacher import SelfTeacher

seen, answer = [], SelfTeacher.answer

def watched(self, batch, layers=()):
    answers = answer(self, batch, layers)
    seen.append(networks.sha256_of_weights(self.network.module))
    return answers

SelfTeacher.answer = watched
results = schedules.distill(recipe.load(sys.argv[1]), Path(sys.argv[2]))
Path(sys.argv[2], os.environ["RANK"] + ".json").write_text(json.dumps([seen, results]))
"""


@pytest.mark.slow
def test_two_processes_go_through_the_stages_together_with_the_same_average(born_again: Recipe, tmp_path: Path) -> None:
    wanted = changed(born_again, teacher=Teacher(model="ema"), train={"ema": 0.9, "epochs": 1}, schedule=BornAgain(generations=2))
    (tmp_path / "recipe.toml").write_text(recipe.encode(wanted))
    (tmp_path / "script.py").write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    command = [*launcher, str(tmp_path / "script.py"), str(tmp_path / "recipe.toml"), str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (averages, results), (other_averages, other_results) = (json.loads((tmp_path / "run" / f"{rank}.json").read_text()) for rank in (0, 1))
    assert averages == other_averages
    assert len(set(averages)) == len(averages) == 10
    assert results == other_results == run.load(tmp_path / "run").results
    assert [row["teacher"] for row in results["stages"]] == ["ema", "generation-1"]


def test_only_the_student_itself_is_kept_on_the_way(recursive: Recipe, tmp_path: Path) -> None:
    schedules.distill(changed(recursive, train={"snapshots": (1,), "epochs": 1}), tmp_path)
    name = "student-epoch-1.safetensors"
    assert [path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob(name)].count(run.STAGES) == 1
    assert (tmp_path / name).read_bytes() == (stage(tmp_path, "student") / name).read_bytes()
