"""The comparison of loops: turns, medians, ratios and what is left out; what a loop's process measures of itself."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import loop_files
import loops
import numpy as np
import pytest
import run
import tiny_bundle
from loops import FIGURES, FILE, LIVE, LOOPS, SLOW, Compared, Kind, compare, entries, environment_of, kinds_of, medians

sys.path.append(str(loops.CHILDREN))
import measured

PYTHONS = {name: Path("python") for name in ("bare", "edgedistill", "tensorflow-sample")}


def told(**figures: float | None) -> dict[str, Any]:
    """Return what a child would tell: 1 of everything that is not given."""
    return {"version": "1.0", **dict.fromkeys(FIGURES, 1.0), **figures}


def test_the_loops_run_in_turn_and_the_turn_turns_round() -> None:
    ran = []

    def once(name: str, kind: Kind) -> dict[str, Any]:
        ran.append((name, kind.name))
        return told(fps=float(len(ran)))

    found = compare(PYTHONS, {}, once, rounds=2)
    first = [("bare", "file"), *(("edgedistill", kind) for kind in ("file", "live", "slow"))]
    last = [("tensorflow-sample", "file"), ("tensorflow-sample", "live")]
    assert ran == [*first, *last, *last, *first[1:], *first[:1]]
    assert found.rows["bare"]["file"]["fps"] == (1 + 12) / 2
    assert set(found.rows["edgedistill"]) == {"file", "live", "slow"}


def test_a_loop_that_fails_is_left_out_with_its_reason() -> None:
    ran = []

    def once(name: str, kind: Kind) -> dict[str, Any]:
        ran.append(name)
        if name == "tensorflow-sample" and kind is LIVE:
            raise RuntimeError("it said nothing")
        return told()

    found = compare(PYTHONS, {"ultralytics": "does not install here"}, once, rounds=3)
    assert found.left_out == {"ultralytics": "does not install here", "tensorflow-sample": "it said nothing"}
    assert ran.count("tensorflow-sample") == 2
    assert set(found.rows) == {"bare", "edgedistill"}


def test_medians_leave_out_what_was_not_told() -> None:
    runs = [told(fps=1.0, age_p99_ms=None), told(fps=5.0, age_p99_ms=7.0), told(fps=3.0, age_p99_ms=None)]
    assert medians(runs) == told(fps=3.0, age_p99_ms=7.0)
    assert medians([told(age_p50_ms=None)])["age_p50_ms"] is None


def found_rows(**theirs: Any) -> Compared:
    ours = {
        kind.name: told(fps=100.0, first_result_s=0.4, peak_rss_mb=90.0, cpu_share_beside_inference=0.02) for kind in (FILE, LIVE, SLOW)
    }
    return Compared(3, {"edgedistill": ours, "tensorflow-sample": {"file": told(**theirs), "live": told(age_p99_ms=2.0)}}, {})


@pytest.mark.parametrize(("fps", "ok"), [(80.0, True), (100.0, True), (101.0, False)])
def test_no_other_loop_may_be_faster(fps: float, ok: bool) -> None:
    by_name = {entry.name: entry for entry in entries(found_rows(fps=fps))}
    ratio = by_name["loops fps tensorflow-sample"]
    assert (ratio.value, ratio.bound, ratio.ok) == (fps / 100, 1.0, ok)
    assert by_name["loops age_p99_ms tensorflow-sample"].value == 0.5
    assert by_name["loops age_p99_ms tensorflow-sample"].bound is None


@pytest.mark.parametrize(
    ("figure", "name", "bound"),
    [
        ("first_result_s", "loops first_result_s", 0.8),
        ("peak_rss_mb", "loops peak_rss_mb", 120.0),
        ("cpu_share_beside_inference", "loops cpu_at_6_fps", 0.03),
    ],
)
def test_what_our_loop_must_keep(figure: str, name: str, bound: float) -> None:
    for value in (bound, bound * 1.01):
        found = found_rows()
        for row in found.rows["edgedistill"].values():
            row[figure] = value
        entry = next(entry for entry in entries(found) if entry.name == name)
        assert (entry.bound, entry.ok) == (bound, value == bound)


def test_without_our_own_loop_there_is_nothing_to_compare() -> None:
    with pytest.raises(RuntimeError, match="our own loop failed: no camera"):
        entries(Compared(1, {}, {"edgedistill": "no camera"}))


def test_each_loop_is_a_script_that_is_there_and_is_held_against_one_of_ours() -> None:
    assert all((loops.CHILDREN / loop.script).is_file() for loop in LOOPS.values())
    assert set(loops.AGAINST) == set(LOOPS) - {"bare", "edgedistill", "edgedistill-onnx"}
    for name, ours in loops.AGAINST.items():
        assert LOOPS[name].file == LOOPS[ours].file
    assert kinds_of("bare") == [FILE]
    assert run.ENTRIES["loops"] is loops.measured


def test_a_package_that_does_not_install_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(command: list[str], **arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, int("pip" in command), "", "one\nERROR: no such package\n")

    monkeypatch.setattr(loops.subprocess, "run", refuse)
    with pytest.raises(RuntimeError, match="mediapipe does not install here: ERROR: no such package"):
        environment_of("mediapipe", tmp_path)
    _, left_out = loops.environments(tmp_path)
    assert set(left_out) == {"mediapipe-sample", "mediapipe-video", "ultralytics"}


def test_an_environment_is_made_once(tmp_path: Path) -> None:
    (tmp_path / "mediapipe").mkdir()
    (tmp_path / "mediapipe" / "done").touch()
    assert environment_of("mediapipe", tmp_path) == tmp_path / "mediapipe" / "bin" / "python"


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder for runs, with the tiny bundle and a short video in the place of the real ones."""
    monkeypatch.setattr(loops, "OUT", tmp_path)
    monkeypatch.setattr(loops, "BUNDLE", tiny_bundle.make(tmp_path / "tiny"))
    monkeypatch.setattr(loop_files, "FRAMES", 20)
    (tmp_path / "loops").mkdir()
    video = loop_files.clip(tmp_path / "loops")
    monkeypatch.setattr(loops, "clip", lambda: video)
    return tmp_path


@pytest.mark.parametrize("name", ["edgedistill", "tensorflow-sample"])
def test_a_loop_of_this_environment_tells_its_figures(tiny: Path, name: str) -> None:
    found = loops.run_once(name, FILE, python=Path(sys.executable))
    assert set(found) >= {"version", *FIGURES}
    assert found["results"] == 10  # of 20 frames, the first 10 only warm up
    assert 0 < found["first_result_s"] < 60
    assert 10 < found["peak_rss_mb"] < 300
    assert (found["age_p99_ms"], found["cpu_share_beside_inference"] is None) == (None, name != "edgedistill")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["edgedistill", "tensorflow-sample"])
def test_a_live_camera_tells_the_age_of_frames(tiny: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(loops, "LIVE_S", 0.5)
    found = loops.run_once(name, LIVE, python=Path(sys.executable))
    assert 0 <= found["age_p50_ms"] <= found["age_p99_ms"] < 5000


def test_a_loop_that_fails_tells_its_last_words(tiny: Path) -> None:
    with pytest.raises(RuntimeError, match=r"mediapipe_video\.py ended with exit code 1: ModuleNotFoundError: No module named 'mediapipe'"):
        loops.run_once("mediapipe-video", FILE, python=Path(sys.executable))


def test_the_network_for_ultralytics_answers_as_the_bundles(tmp_path: Path) -> None:
    import onnxruntime

    from edgedistill import bundle
    from edgedistill.postprocess import softmax
    from edgedistill.runtime import open_engine

    session = onnxruntime.InferenceSession(str(loop_files.for_ultralytics(tmp_path)))
    engine = open_engine(bundle.load(loop_files.BUNDLE), "onnx-int8", threads=1)
    pixels = np.random.default_rng(0).integers(0, 256, engine.model.input.shape, np.uint8)
    (found,) = session.run(None, {"images": (pixels / np.float32(255)).astype(np.float32).transpose(0, 3, 1, 2)})
    np.testing.assert_allclose(found[0], softmax(engine.run(pixels)), atol=1e-6)
    assert session.get_modelmeta().custom_metadata_map["task"] == "classify"


@pytest.mark.parametrize("late_ms", [0, 5, 1234])
def test_a_stamp_survives_jpeg(late_ms: int) -> None:
    import cv2

    frame_bgr = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    at_ns = 123_456_789_012_345_678
    measured.stamp(frame_bgr, at_ns)
    _, jpeg = cv2.imencode(".jpg", frame_bgr, [cv2.IMWRITE_JPEG_QUALITY, 60])
    assert measured.age_ms(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), at_ns + late_ms * 1_000_000) == late_ms


def test_what_a_loop_measures_of_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOP_STARTED_NS", str(time.monotonic_ns() - 2_000_000_000))
    monkeypatch.setenv("LOOP_RESULT", str(tmp_path / "result.json"))
    loop = measured.Measured(stamped=True, seconds=0.03, warmup=2)
    frame_bgr = np.zeros((480, 640, 3), np.uint8)
    count = 0
    while not loop.over:
        measured.stamp(frame_bgr, time.monotonic_ns() - 50_000_000)
        loop.result(frame_bgr, inference_ms=1.0)
        time.sleep(0.005)
        count += 1
    loop.tell(version="7")
    found = json.loads((tmp_path / "result.json").read_text())
    assert (found["version"], found["results"]) == ("7", count - 2)
    assert found["first_result_s"] >= 2
    assert 50 <= found["age_p50_ms"] < 5000
    assert 0 < found["fps"] <= 200


def test_a_loop_without_results_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOP_STARTED_NS", "0")
    monkeypatch.setenv("LOOP_RESULT", str(tmp_path / "result.json"))
    with pytest.raises(SystemExit, match="only 0 results"):
        measured.Measured(stamped=False).tell(version="7")
    assert not list(tmp_path.iterdir())


def test_all_is_written_for_the_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "OUT", tmp_path)
    monkeypatch.setattr(loops, "environments", lambda: (PYTHONS, {"ultralytics": "does not install here"}))
    monkeypatch.setattr(loops, "run_once", lambda name, kind, python: told())
    loops.measured(rounds=1, out=tmp_path / "measured" / "loops.json")
    found = json.loads((tmp_path / "measured" / "loops.json").read_text())
    assert (found["schema"], found["rounds"], found["bundle"]) == (1, 1, "garments-mobilenetv2")
    assert found["rows"]["tensorflow-sample"]["live"]["fps"] == 1.0
    assert found["rows"]["edgedistill"]["what"] == LOOPS["edgedistill"].what
    assert found["left_out"] == {"ultralytics": "does not install here"}
    assert found["environment"]["cores"] >= 1
