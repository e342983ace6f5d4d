"""`distill`, `evaluate` and their output, on a tiny network and real photographs."""

import json
from pathlib import Path

import pytest
from tiny_network import RECIPE

from edgedistill.cli import distill, run


@pytest.fixture
def recipe_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path / "recipe.toml"


def test_distill_then_evaluate(recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["distill", str(recipe_file), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["schema"] == 1
    assert (recipe_file.parent / "runs" / "tiny" / "student.safetensors").is_file()
    assert run(["evaluate", "runs/tiny", "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert evaluated["images"] == 100
    assert evaluated["entries"][0]["accuracy"] == pytest.approx(results["student"]["accuracy"])


def test_tables_go_to_stdout_and_progress_to_stderr(recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["distill", str(recipe_file)]) == 0
    shown = capsys.readouterr()
    assert "test accuracy" in shown.out
    assert "python:tiny_network:make" in shown.out
    assert "training tiny" in shown.err
    assert "training" not in shown.out
    assert "export it with: edgedistill export runs/tiny" in shown.err


def test_set_plain_and_smoke_change_the_recipe_and_the_folder(recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["distill", str(recipe_file), "--plain", "--smoke", "--set", "seed=7", "--set", "train.lr=0.5", "--json"]
    assert run(arguments) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == 7
    saved = (recipe_file.parent / "runs" / "tiny-plain-smoke" / "recipe.toml").read_text()
    assert "lr = 0.5" in saved
    assert "epochs = 1" in saved


def test_a_second_run_needs_resume(recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["distill", str(recipe_file)]) == 0
    assert run(["distill", str(recipe_file)]) == 1
    assert "give --resume to go on there" in capsys.readouterr().err
    assert run(["distill", str(recipe_file), "--resume"]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.epoch=3", "unknown key"),
        ("train.epochs=many", "train.epochs"),
        ("train.epochs", "is not KEY=VALUE"),
        ("student.model=timm:mobilenetv3_smal_050", "Did you mean 'mobilenetv3_small_050'"),
        ("data.source=folder:nowhere", "does not exist"),
        ("data.source=embeded", "Did you mean 'embedded'"),
    ],
)
def test_bad_input_is_explained(recipe_file: Path, change: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["distill", str(recipe_file), "--set", change]) == 1
    assert message in capsys.readouterr().err
    assert not (recipe_file.parent / "runs").exists()


def test_evaluate_on_other_images(recipe_file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import cv2
    import numpy as np

    assert run(["distill", str(recipe_file)]) == 0
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(6):
            assert cv2.imwrite(str(tmp_path / "pets" / name / f"{i}.png"), np.full((20, 20, 3), 40 * i, np.uint8))
    capsys.readouterr()
    assert run(["evaluate", "runs/tiny", "--data", "folder:pets"]) == 1
    assert "['cat', 'dog']" in capsys.readouterr().err


def test_a_corrupt_image_is_named_to_the_person(recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import cv2
    import numpy as np

    for level, name in ((40, "dark"), (200, "light")):
        (recipe_file.parent / "photos" / name).mkdir(parents=True)
        for i in range(60):
            assert cv2.imwrite(str(recipe_file.parent / "photos" / name / f"{i}.png"), np.full((16, 16, 3), level + i % 20, np.uint8))
    (recipe_file.parent / "photos" / "dark" / "torn.jpg").write_bytes(b"no photograph")
    assert run(["distill", str(recipe_file), "--set", "data.source=folder:photos"]) == 0
    assert "1 images could not be decoded and were left out: torn.jpg" in capsys.readouterr().err


SCHEDULE = ["--set", 'schedule={kind = "born_again"}', "--set", 'distill=[{loss = "kd"}]', "--set", "cache.enabled=false"]


def test_a_schedule_shows_its_stages_and_what_they_know_together(recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["distill", str(recipe_file), *SCHEDULE]) == 0
    shown = capsys.readouterr()
    for text in ("ensemble of 2 generations", "taught by", "generation-1", "generation-2", "labels"):
        assert text in shown.out
    assert "stage 1 of 2, generation-1: python:tiny_network:make, seed 0, taught by the labels alone" in shown.err
    assert shown.err.index("teacher python:tiny_network:make: ") < shown.err.index("training tiny-generation-2")  # its accuracy first
    assert run(["evaluate", "runs/tiny", "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    results = json.loads((recipe_file.parent / "runs" / "tiny" / "results.json").read_text())
    assert evaluated["entries"][0]["accuracy"] == pytest.approx(results["student"]["accuracy"])
    assert run(["distill", str(recipe_file), *SCHEDULE, "--resume", "--json"]) == 0
    again = capsys.readouterr()
    assert json.loads(again.out) == results
    assert "training" not in again.err


def test_the_plain_control_of_a_schedule_is_one_training(recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["distill", str(recipe_file), *SCHEDULE, "--plain", "--json"]) == 0
    assert "stages" not in json.loads(capsys.readouterr().out)
    assert not (recipe_file.parent / "runs" / "tiny-plain" / "stages").exists()


def test_a_schedule_s_bad_input_is_explained(recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["distill", str(recipe_file), "--set", 'schedule={kind = "born_again"}']) == 1
    assert "no term learns from a teacher" in capsys.readouterr().err
    assert run(["distill", str(recipe_file), *SCHEDULE, "--set", "schedule.generations=1"]) == 1
    assert "schedule.generations" in capsys.readouterr().err


UNKNOWN = {"accuracy": 0.5, "accuracy_interval": [0.4, 0.6], "ece": 0.01, "parameters": None, "macs": None}


def test_sizes_that_are_not_known_are_a_dash() -> None:
    assert distill.network_row("teacher onnx:t.onnx", UNKNOWN)[-2:] == ["\N{EN DASH}"] * 2
    assert distill.network_row("student", {**UNKNOWN, "parameters": 1_234_567, "macs": 10_000_000})[-2:] == ["1.23 M", "10.0 M"]


@pytest.mark.parametrize(
    ("cache", "line"),
    [
        ({"teacher_forwards": 1234}, "no view cache: the teacher answered 1,234 images in this training"),
        (
            {"fingerprint": "0123456789abcdef", "bytes": 2_500_000, "views": 3, "views_filled_before": 3, "teacher_forwards": 0},
            "view cache 0123456789ab, 2.5 MB: the teacher answered 0 images in this training, 3 of 3 views were filled before",
        ),
    ],
)
def test_what_the_cache_did_is_one_line(cache: dict[str, int | str], line: str) -> None:
    assert distill.cache_line(cache) == line
