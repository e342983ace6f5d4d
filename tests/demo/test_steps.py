"""The demo's steps: what is skipped, what the device's output says, and the whole way in a smoke run."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedistill.cli import run
from edgedistill.demo import device, page, steps
from edgedistill.demo.clip import ClipOptions, FrameTruth, Truth
from edgedistill.demo.students import Demo
from edgedistill.errors import EngineError
from edgedistill.postprocess import Prediction
from edgedistill.runtime.camera import Result
from edgedistill.runtime.outputs import json_line


def quiet(*args: object) -> None:
    """Say nothing."""


def demo_in(out: Path, **changes: Any) -> Demo:
    return Demo(**({"out": out, "data": None, "train_teacher": False, "smoke": False, "say": quiet, "progress": quiet} | changes))


@pytest.mark.parametrize(("then", "same"), [(("a", "b"), True), (("a", "c"), False), (("a",), False), (("ab", ""), False)])
def test_a_step_is_skipped_only_with_the_same_inputs(tmp_path: Path, then: tuple[str, ...], same: bool) -> None:
    said: list[str] = []
    job = demo_in(tmp_path, say=said.append)
    assert not steps.unchanged(job, "export", "a", "b")
    steps.done(job, "export", "a", "b")
    assert steps.unchanged(job, "export", *then) is same
    assert said == (["export: inputs have not changed, skipped"] if same else [])
    assert not steps.unchanged(job, "profile", "a", "b")


def test_the_shipped_teacher_is_used_unless_told(tmp_path: Path) -> None:
    said: list[str] = []
    weights = steps.teacher_weights(demo_in(tmp_path, say=said.append))
    assert weights.parent.name == "fashion-mnist-resnet10t"
    assert said == ["teacher: the shipped fashion-mnist-resnet10t"]


@pytest.mark.parametrize(
    ("changes", "source"),
    [({"train_teacher": True}, "torchvision:FashionMNIST"), ({"data": "folder:/photos"}, "folder:/photos")],
)
def test_a_teacher_is_trained_when_asked_or_on_other_images(
    tmp_path: Path, changes: dict[str, Any], source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Any] = []
    monkeypatch.setattr(steps.students, "train", lambda job, wanted, name: trained.append((wanted, name)))
    weights = steps.teacher_weights(demo_in(tmp_path, **changes))
    ((wanted, name),) = trained
    assert (wanted.data.source, wanted.student.model, name) == (source, "timm:resnet10t", "teacher")
    assert weights == tmp_path / "teacher" / "student.safetensors"


def test_outside_of_the_checkout_the_full_set_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert steps.student_recipe(demo_in(tmp_path)).data.source == "embedded"
    monkeypatch.setattr(steps, "EMBEDDED_FILE", tmp_path / "missing.npz")
    assert steps.student_recipe(demo_in(tmp_path)).data.source == "torchvision:FashionMNIST"


def line(frame_id: int, class_id: int, *, total: float = 2.0, dropped: int = 0) -> str:
    stages_ms = {"capture": 0.1, "preprocess": 0.2, "invoke": 1.0, "postprocess": 0.1, "total": total}
    return json_line(Result((Prediction(class_id, "x", 0.9),), frame_id, frame_id / 10, 1.7e9, stages_ms, dropped))


def write_truth(path: Path, labels: list[int]) -> None:
    import msgspec

    frames = [FrameTruth(frame_id=i, label=label, image_index=i) for i, label in enumerate(labels)]
    path.write_bytes(msgspec.json.encode(Truth(schema=1, video="clip.avi", options=ClipOptions(), frames=frames)))


def test_camera_results_by_hand(tmp_path: Path) -> None:
    write_truth(tmp_path / "clip.json", [0, 1, 2, 3])
    (tmp_path / "camera.jsonl").write_text("\n".join([line(0, 0), line(1, 1), line(2, 0), line(3, 3, total=4.0, dropped=1)]) + "\n")
    found = device.camera_results(tmp_path / "camera.jsonl", tmp_path / "clip.json")
    assert (found["accuracy"], found["frames"], found["dropped"]) == (0.75, 4, 1)
    assert found["fps"] == pytest.approx(10.0)
    assert found["latency_ms"]["p50"] == pytest.approx(2.0)


def test_a_camera_run_without_results_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "camera.jsonl").write_text("")
    with pytest.raises(EngineError, match="holds no result"):
        device.read_camera(tmp_path / "camera.jsonl")


def test_the_device_s_errors_reach_the_person(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"(?s)edgedistill\.runtime info .* ended with code 1: .*is not a bundle"):
        device.device("info", str(tmp_path))


def test_the_date_is_a_date() -> None:
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d UTC", page.created())


@pytest.mark.slow
def test_the_whole_way_in_a_smoke_run_and_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--smoke", "--out", str(tmp_path / "demo"), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results == json.loads((tmp_path / "demo" / "results.json").read_text())
    for network in ("teacher", "plain", "distilled"):
        assert 0 <= results[network]["accuracy"] <= 1
        assert results[network]["parameters"] > 100_000
        assert results[network]["macs"] > 1_000_000
    assert results["teacher"]["accuracy"] > 0.85
    assert {(entry["format"], entry["precision"]) for entry in results["files"]} == {
        ("onnx", "fp32"),
        ("onnx", "int8"),
        ("tflite", "fp32"),
        ("tflite", "int8"),
    }
    for entry in results["files"]:
        assert (tmp_path / "demo" / "bundle" / entry["file"]).stat().st_size == entry["bytes"]
        assert 0 < entry["latency_ms"]["p50"] <= entry["latency_ms"]["p90"] <= entry["latency_ms"]["p99"]
        assert 20 < entry["peak_rss_mb"] < 1000
    assert results["camera"]["frames"] == 60
    assert results["camera"]["dropped"] == 0
    assert "<html" in (tmp_path / "demo" / "report.html").read_text()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "demo").rglob("*.safetensors")}
    assert run(["demo", "--smoke", "--out", str(tmp_path / "demo")]) == 0
    shown = capsys.readouterr().err
    for step in ("plain: trained before", "distilled: trained before", "export: inputs", "profile: inputs", "camera: inputs"):
        assert step in shown
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "demo").rglob("*.safetensors")}


def test_paired_counts_by_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Images 0 and 1 are right by both, 2 by the distilled one only, 3 by nobody."""
    answers = {"plain": [0, 1, 0, 0], "distilled": [0, 1, 2, 0]}
    splits = type("Splits", (), {"test": type("Test", (), {"labels": np.array([0, 1, 2, 3])})})
    monkeypatch.setattr(steps.run, "load", lambda path: path.name)
    monkeypatch.setattr(steps.run, "test_logits", lambda name, splits: np.eye(4)[answers[name]])
    assert steps.paired(demo_in(tmp_path), splits) == {"only_distilled": 1, "only_plain": 0}  # type: ignore[arg-type]
