"""From runs to bundles and to accuracies: what is handed on, with which provenance."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from tiny_network import RECIPE

from edgedistill import bundle, metrics, pipeline, recipe
from edgedistill.distill import run
from edgedistill.distill.data import open_splits
from edgedistill.errors import EdgeDistillError
from edgedistill.recipe import Export, Term

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "export" / "fashion-mnist-mobilenetv3"
OVERRIDES = (
    "data.test_limit=300",
    "student.mean=[0.1, 0.2, 0.3]",
    "student.std=[0.4, 0.5, 0.6]",
    "export={calibration = 40, parity_images = 256}",
)
TINY = recipe.decode(RECIPE, overrides=OVERRIDES)


def quiet(text: str, done: int, total: int) -> None:
    """Show no progress."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "run"
    run.distill(TINY, folder)
    return folder


@pytest.fixture(scope="module")
def taught(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taught") / "run"
    teacher = recipe.Teacher(model="python:tiny_network:make", weights=str(plain / run.STUDENT), licence="Apache-2.0")
    run.distill(msgspec.structs.replace(TINY, teacher=teacher, distill=(Term(loss="kd"),)), folder)
    return folder


class Captured:
    """Stands in for the converter and keeps what it was given."""

    def __init__(self) -> None:
        self.job: Any = None

    def __call__(self, student: object, job: Any, out: Path, *, progress: Any) -> str:
        self.job = job
        progress("writing")
        return "exported"


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Captured:
    capture = Captured()
    monkeypatch.setattr(pipeline, "export_bundle", capture)
    return capture


def test_export_hands_on_the_student_s_preprocessing_and_real_images(plain: Path, captured: Captured, tmp_path: Path) -> None:
    told: list[str] = []
    pipeline.export(plain, tmp_path / "bundle", changes={}, progress=lambda text, done, total: told.append(text))
    job = captured.job
    assert (job.name, job.mean, job.std) == ("tiny", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (job.preprocess.height, job.preprocess.resize, job.preprocess.mean) == (16, "crop", None)
    assert (len(job.calibration_frames_bgr), len(job.test_frames_bgr), len(job.test_labels)) == (40, 256, 256)
    assert job.teacher_logits is None
    assert told == ["writing"]


def test_calibration_images_are_training_images(plain: Path, captured: Captured, tmp_path: Path) -> None:
    pipeline.export(plain, tmp_path / "bundle", changes={}, progress=quiet)
    splits = open_splits(run.load(plain).recipe.data)
    training = {frame.tobytes() for frame in splits.train}
    assert all(frame.tobytes() in training for frame in captured.job.calibration_frames_bgr)
    assert not any(frame.tobytes() in training for frame in captured.job.test_frames_bgr[:50])


@pytest.mark.parametrize("changes", [{"int8": False}, {"formats": ("tflite",)}, {"calibration": 20}])
def test_options_replace_the_recipe_s_export_table(plain: Path, captured: Captured, tmp_path: Path, changes: dict[str, Any]) -> None:
    pipeline.export(plain, tmp_path / "bundle", changes=changes, progress=quiet)
    for key, value in changes.items():
        assert getattr(captured.job.settings, key) == value


def test_a_taught_student_brings_its_teacher_s_answers(plain: Path, taught: Path, captured: Captured, tmp_path: Path) -> None:
    pipeline.export(taught, tmp_path / "bundle", changes={}, progress=quiet)
    logits = captured.job.teacher_logits
    teacher = run.load(plain)
    expected = run.test_logits(teacher, open_splits(teacher.recipe.data))
    assert logits.shape == (256, 10)
    assert {tuple(np.round(row, 4)) for row in logits} <= {tuple(np.round(row, 4)) for row in expected}


@pytest.mark.parametrize(
    ("licence", "decision"), [("Apache-2.0", "allowed"), ("MIT", "allowed"), ("CC-BY-NC-4.0", "not decided"), ("unknown", "not decided")]
)
def test_provenance_says_what_was_decided_of_the_teacher_s_licence(taught: Path, licence: str, decision: str) -> None:
    finished = run.load(taught)
    finished.results["teacher"]["licence"] = licence
    made_from = pipeline.provenance(finished, open_splits(finished.recipe.data))
    assert made_from.teacher is not None
    assert made_from.teacher.licence == licence
    assert made_from.teacher.licence_decision.startswith(decision)


def test_provenance_names_student_data_and_recipe(plain: Path) -> None:
    finished = run.load(plain)
    splits = open_splits(finished.recipe.data)
    made_from = pipeline.provenance(finished, splits)
    assert made_from.student_sha256 == bundle.sha256_of(plain / run.STUDENT)
    assert (made_from.teacher, made_from.dataset, made_from.dataset_sha256) == (None, "embedded", splits.sha256)
    assert made_from.recipe_sha256 == recipe.digest(finished.recipe)
    assert "torch" in made_from.versions


def test_a_folder_source_is_named_without_the_machine_s_path(plain: Path, image_copy: Path) -> None:
    finished = run.load(plain)
    moved = msgspec.structs.replace(finished.recipe, data=recipe.Data(source=f"folder:{image_copy}"))
    made_from = pipeline.provenance(run.Run(plain, moved, finished.student, {}), open_splits(moved.data))
    assert made_from.dataset == "folder:photos"


def test_export_of_a_run_whose_data_has_changed_is_refused(plain: Path, captured: Captured, tmp_path: Path, image_copy: Path) -> None:
    shutil.rmtree(image_copy / "Bag")
    shutil.copytree(plain, tmp_path / "run")
    saved = run.load(plain).recipe
    changed = msgspec.structs.replace(saved, data=recipe.Data(source=f"folder:{image_copy}"))
    (tmp_path / "run" / run.RECIPE).write_text(recipe.encode(changed))
    with pytest.raises(EdgeDistillError, match="restore the data"):
        pipeline.export(tmp_path / "run", tmp_path / "bundle", changes={}, progress=quiet)
    assert captured.job is None


def test_figures_by_hand() -> None:
    logits = np.array([[4.0, 0.0], [0.0, 4.0], [4.0, 0.0], [0.0, 4.0]], np.float32)
    found = run.figures(logits, np.array([0, 1, 0, 0]))
    assert found["accuracy"] == 0.75
    low, high = found["accuracy_interval"]
    assert (low, high) == metrics.accuracy_interval(0.75, 4)
    assert found["nll"] == pytest.approx(np.log1p(np.exp(-4)) + 1.0)


class _Pair(NamedTuple):
    first: float
    second: object


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (_Pair(1.0, (2.0, _Pair(float("inf"), None))), {"first": 1.0, "second": [2.0, {"first": None, "second": None}]}),
        ({"a": _Pair(0.5, True)}, {"a": {"first": 0.5, "second": True}}),
        (Export(), msgspec.to_builtins(Export())),
        ("text", "text"),
    ],
)
def test_results_as_json(value: object, expected: object) -> None:
    assert pipeline.as_json(value) == expected
    json.dumps(pipeline.as_json(value), allow_nan=False)
