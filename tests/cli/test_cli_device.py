"""`profile`, `camera`, `info` and `evaluate` on the shipped bundle."""

import io
import json
from pathlib import Path

import pytest

from edgedistill.cli import run
from edgedistill.runtime.results import read_results

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


@pytest.mark.parametrize(("threads", "expected"), [(["--threads", "1,2"], [1, 2]), (["--threads", "auto"], "auto"), ([], None)])
def test_compare_engines_takes_thread_counts(threads: list[str], expected: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgedistill.runtime import compare_engines

    asked: list[tuple[str, object, int, bool]] = []

    def compare_command(bundle: Path, options: compare_engines.CompareOptions, *, as_json_object: bool) -> int:
        asked.append((str(bundle), options.threads, options.rounds, as_json_object))
        return 0

    monkeypatch.setattr(compare_engines, "compare_command", compare_command)
    assert run(["compare-engines", BUNDLE, *threads, "--rounds", "3", "--json"]) == 0
    assert asked == [(BUNDLE, expected, 3, True)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["profile", BUNDLE, "--threads", "none"], "argument --threads: expected a whole number, got 'none'"),
        (["profile", BUNDLE, "--runs", "0"], "expected a number of 1 or more, got 0"),
        (["compare-engines", BUNDLE, "--threads", "1,none"], "'1,none' is neither numbers of 1 or more such as 1,2 nor auto"),
        (["compare-engines", BUNDLE, "--threads", "0"], "neither numbers of 1 or more"),
        (["compare-engines", BUNDLE, "--rounds", "0"], "0 is not in the range"),
        (["camera", BUNDLE, "--threads", "auto"], "argument --threads: auto is for profile"),
        (["camera", BUNDLE, "--threshold", "2"], "expected a number from 0 to 1, got 2"),
        (["camera", BUNDLE, "--output", "xml"], "invalid choice: 'xml'"),
        (["camera", BUNDLE, "--duration", "0"], "expected a number above 0, got 0"),
    ],
)
def test_wrong_usage_is_explained(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_camera_writes_one_line_a_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["camera", BUNDLE, "--source", "test://", "--frames", "4", "--output", "jsonl", "--top-k", "2"]) == 0
    shown = capsys.readouterr()
    rows = list(read_results(io.StringIO(shown.out), finished=True))
    assert [len(row.top_k) for row in rows] == [2] * 4
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
