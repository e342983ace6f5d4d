"""`profile`, `camera`, `info` and `evaluate` on the shipped bundle."""

import json
from pathlib import Path

import pytest

from edgedistill.cli import run

BUNDLE = str(Path(__file__).parents[2] / "export" / "fashion-mnist-mobilenetv3")


@pytest.mark.parametrize("file", ["tflite-int8", "tflite-fp32", "onnx-fp32", "onnx-int8"])
def test_profile_json_is_the_interface(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["profile", BUNDLE, "--file", file, "--threads", "1", "--runs", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"schema", "file", "engine", "threads", "stages_ms", "fps", "peak_rss_mb", "first_result_s", "environment"} <= found.keys()
    assert (found["schema"], found["threads"]) == (1, 1)
    assert list(found["stages_ms"]) == ["capture", "preprocess", "invoke", "postprocess", "total"]
    for stage in found["stages_ms"].values():
        assert 0 <= stage["p50"] <= stage["p90"] <= stage["p99"] <= stage["max"]


def test_profile_auto_sweeps_threads(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["profile", BUNDLE, "--threads", "auto", "--runs", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    best = min(found["sweep"], key=lambda entry: entry["total_ms"]["p90"])
    assert found["threads"] == best["threads"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["profile", BUNDLE, "--threads", "none"], "neither a number of 1 or more nor auto"),
        (["profile", BUNDLE, "--runs", "0"], "0 is not in the range"),
        (["camera", BUNDLE, "--threads", "auto"], "--threads auto is for profile"),
        (["camera", BUNDLE, "--threshold", "2"], "2.0 is not in the range"),
        (["camera", BUNDLE, "--output", "xml"], "'xml' is not one of"),
        (["camera", BUNDLE, "--duration", "0"], "is not in the range"),
    ],
)
def test_wrong_usage_is_explained(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_camera_writes_one_line_a_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["camera", BUNDLE, "--source", "test://", "--frames", "4", "--output", "jsonl", "--top-k", "2"]) == 0
    shown = capsys.readouterr()
    rows = [json.loads(line) for line in shown.out.splitlines()]
    assert [row["schema"] for row in rows] == [1] * 4
    assert all(len(row["top_k"]) == 2 for row in rows)
    assert "4 frames" in shown.err


def test_camera_without_a_camera_has_its_own_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["camera", BUNDLE, "--source", "/dev/video77"]) == 4
    assert "/dev/video77" in capsys.readouterr().err


def test_info_shows_files_and_origin(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", BUNDLE]) == 0
    shown = capsys.readouterr().out
    assert "Ankle boot" in shown
    assert "timm:resnet10t" in shown
    assert run(["info", BUNDLE, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["manifest"]["format"] == 1
