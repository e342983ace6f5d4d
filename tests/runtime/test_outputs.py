"""Lines, pictures, video files and windows of results."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedistill.errors import MissingExtraError, OutputError
from edgedistill.latency import Percentiles
from edgedistill.postprocess import Prediction
from edgedistill.runtime import outputs
from edgedistill.runtime.camera import Result, Summary
from edgedistill.runtime.outputs import VideoFile, annotate, json_line, summary_text, text_line

STAGES_MS = {"capture": 1.0, "preprocess": 0.5, "invoke": 3.0, "postprocess": 0.123456789, "total": 4.62}
TWO = (Prediction(4, "coat", 0.75), Prediction(2, "pullover", 0.2))


def result(*, top_k: tuple[Prediction, ...] = TWO, dropped: int = 0) -> Result:
    return Result(top_k, 7, 12.5, 1.7e9, STAGES_MS, dropped)


def test_a_json_line_has_every_key() -> None:
    text = json_line(result(dropped=3))
    assert "\n" not in text
    assert json.loads(text) == {
        "schema": 1,
        "frame_id": 7,
        "time_s": 1.7e9,
        "time_monotonic_s": 12.5,
        "top_k": [{"class_id": 4, "label": "coat", "score": 0.75}, {"class_id": 2, "label": "pullover", "score": 0.2}],
        "stages_ms": STAGES_MS | {"postprocess": 0.1235},
        "dropped": 3,
    }


def test_a_label_with_a_line_break_stays_on_one_line() -> None:
    text = json_line(result(top_k=(Prediction(0, 'a "b"\nc', 1.0),)))
    assert "\n" not in text
    assert json.loads(text)["top_k"][0]["label"] == 'a "b"\nc'


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (result(), "     7  coat 75.0%, pullover 20.0%  4.6 ms"),
        (result(dropped=2), "     7  coat 75.0%, pullover 20.0%  4.6 ms  2 dropped"),
        (result(top_k=()), "     7  nothing above the threshold  4.6 ms"),
    ],
)
def test_a_text_line(given: Result, expected: str) -> None:
    assert text_line(given) == expected


def test_a_summary() -> None:
    text = summary_text(Summary(120, 29.97, 3, 1, {"total": Percentiles(1, 2, 3, 4)}, 0.456))
    first, head, total = text.splitlines()
    assert first == "120 frames, 30.0 a second, 3 dropped, 1 could not be read, first result after 0.46 s"
    assert head.split() == ["ms", "p50", "p90", "p99", "max"]
    assert total.split() == ["total", "1.00", "2.00", "3.00", "4.00"]


def test_a_summary_of_nothing() -> None:
    assert summary_text(Summary(0, None, 0, 0, {}, None)) == "0 frames, 0 dropped, 0 could not be read"


@pytest.mark.parametrize(("height", "width"), [(480, 640), (1080, 1920), (120, 160), (8, 8)])
def test_annotating_writes_above_and_leaves_the_rest(height: int, width: int) -> None:
    frame_bgr = np.full((height, width, 3), 90, np.uint8)
    image_bgr = annotate(frame_bgr, result())
    assert image_bgr.shape == frame_bgr.shape
    assert (frame_bgr == 90).all()
    assert (image_bgr[0] != 90).any()
    if height > 100:
        np.testing.assert_array_equal(image_bgr[height // 2 :], frame_bgr[height // 2 :])


def test_annotated_letters_are_readable_at_640_by_480() -> None:
    image_bgr = annotate(np.full((480, 640, 3), 255, np.uint8), result(top_k=TWO[:1]))
    bright = (image_bgr[:60] > 200).all(axis=2)
    rows = np.flatnonzero(bright[:30].any(axis=1))
    assert 12 <= rows.max() - rows.min() <= 30
    assert bright[:30].sum() > 300


@pytest.mark.parametrize("label", ["x" * 300, "Größe", "猫", ""])
def test_any_label_is_drawn_within_the_frame(label: str) -> None:
    image_bgr = annotate(np.full((480, 640, 3), 90, np.uint8), result(top_k=(Prediction(0, label, 0.5),)))
    assert (image_bgr[:34, -4:] < 40).all(), "letters run out of the frame"


def read_video(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    found = []
    while True:
        good, frame = capture.read()
        if not good:
            return found
        found.append(frame)


@pytest.mark.parametrize("name", ["out.mp4", "out.avi", "OUT.AVI"])
def test_a_video_is_whole_when_it_has_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with VideoFile(path, 25.0) as video:
        for grey in (20, 120, 220):
            video.write(np.full((48, 64, 3), grey, np.uint8))
            assert not path.exists()
    np.testing.assert_allclose([frame.mean() for frame in read_video(path)], [20, 120, 220], atol=5)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_frames_of_another_size_fit_the_first(tmp_path: Path) -> None:
    with VideoFile(tmp_path / "out.avi", None) as video:
        video.write(np.zeros((48, 64, 3), np.uint8))
        video.write(np.full((96, 100, 3), 200, np.uint8))
    frames = read_video(tmp_path / "out.avi")
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 2
    assert frames[1].mean() > 190


def test_a_failed_run_leaves_no_video_and_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "out.avi"
    path.write_bytes(b"old")
    with pytest.raises(cv2.error), VideoFile(path, 25.0) as video:
        [video.write(frame) for frame in (np.zeros((48, 64, 3), np.uint8), np.zeros((0, 0, 3), np.uint8))]
    assert [file.name for file in tmp_path.iterdir()] == ["out.avi"]
    assert path.read_bytes() == b"old"


def test_a_run_without_frames_writes_no_video(tmp_path: Path) -> None:
    with VideoFile(tmp_path / "out.avi", 25.0):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"), [("out.mkv", "ends in .mp4 or .avi"), ("no/out.mp4", "there is no folder"), ("out", "ends in")]
)
def test_a_video_that_cannot_be_is_refused_before_the_run(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(OutputError, match=message):
        VideoFile(tmp_path / name, 25.0)


def test_a_folder_of_the_videos_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").mkdir()
    with pytest.raises(OutputError, match="it is a folder itself"):
        VideoFile(tmp_path / "out.mp4", 25.0)


def test_a_video_that_opencv_cannot_write_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(outputs.CODECS, ".avi", "\0\0\0\0")
    with pytest.raises(OutputError, match="OpenCV lacks"), VideoFile(tmp_path / "out.avi", 25.0) as video:
        video.write(np.zeros((0, 0, 3), np.uint8))


def test_no_screen_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(OutputError, match=r"no screen.*--save"), outputs.window():
        pass


def test_an_opencv_without_windows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str, flags: int) -> None:
        raise cv2.error("The function is not implemented")

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", without, raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'edgedistill\[gui\]'"), outputs.window():
        pass


@pytest.mark.parametrize(("key", "goes_on"), [(-1, True), (ord("x"), True), (ord("q"), False), (27, False)])
def test_q_and_escape_end_the_run(monkeypatch: pytest.MonkeyPatch, key: int, goes_on: bool) -> None:
    shown = []
    monkeypatch.setattr(cv2, "imshow", lambda name, image: shown.append(image), raising=False)
    monkeypatch.setattr(cv2, "waitKey", lambda delay: key, raising=False)
    image = np.zeros((4, 4, 3), np.uint8)
    assert outputs.show(image) is goes_on
    assert shown[0] is image
