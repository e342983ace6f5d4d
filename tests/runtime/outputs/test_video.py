"""Annotated video files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from a_result import TWO, result

from edgedistill.errors import OutputError
from edgedistill.runtime import disk, outputs
from edgedistill.runtime.frames import Frame
from edgedistill.runtime.outputs import AnnotatedVideo, VideoFile
from edgedistill.runtime.outputs.video import Pace


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


def test_a_video_that_cannot_be_opened_is_an_error_each_time_and_written_once_it_can(tmp_path: Path) -> None:
    grey = np.full((48, 64, 3), 120, np.uint8)
    in_the_way = tmp_path / ".out.part.avi"
    in_the_way.mkdir()
    with VideoFile(tmp_path / "out.avi", 25.0) as video:
        for _ in range(2):
            with pytest.raises(OutputError, match="the folder is not writable"):
                video.write(grey)
        in_the_way.rmdir()
        video.write(grey)
    assert len(read_video(tmp_path / "out.avi")) == 1


def test_a_video_that_cannot_be_finished_does_not_keep_the_others_from_it(tmp_path: Path) -> None:
    video = AnnotatedVideo(tmp_path / "out.avi", [Origin("0", True, None), Origin("1", True, 5.0)])
    for source in (0, 1):
        video.write(frame_at(0.0, source=source), result(source=source))
    (tmp_path / "out-0.avi").mkdir()
    with pytest.raises(OutputError, match=r"out-0\.avi cannot be saved"):
        video.close()
    assert len(read_video(tmp_path / "out-1.avi")) == 1


class Origin(NamedTuple):
    name: str
    live: bool
    fps: float | None


def frame_at(at_s: float, *, source: int = 0) -> Frame:
    return Frame(0, np.full((48, 64, 3), 200, np.uint8), at_s, 0.0, 0.0, source)


@pytest.mark.parametrize(
    ("times_s", "counts"),
    [
        ([0.0, 0.1, 0.2, 0.3], [1, 1, 1, 1]),
        ([0.0, 0.3, 0.4], [1, 3, 1]),
        ([0.0, 0.02, 0.04, 0.06, 0.1], [1, 0, 0, 1, 0]),
        ([0.0, 100.0, 100.1], [1, 1, 1]),
        ([0.0, 0.13, 0.19, 0.31], [1, 1, 1, 1]),
    ],
)
def test_frames_are_repeated_or_left_out_to_keep_pace(times_s: list[float], counts: list[int]) -> None:
    pace = Pace(10.0)
    assert [pace.images_until(at_s) for at_s in times_s] == counts


@pytest.mark.parametrize("rate", [3.0, 7.7, 25.0, 60.0])
def test_a_live_video_lasts_as_long_as_the_world_did(rate: float) -> None:
    pace = Pace(30.0)
    images = sum(pace.images_until(number / rate) for number in range(round(10 * rate)))
    assert images / 30.0 == pytest.approx(10.0, abs=1 / rate + 0.05)


@pytest.mark.parametrize(("live", "images"), [(True, 21), (False, 3)])
def test_the_annotated_video_of_a_camera_runs_as_the_world_did_and_a_files_has_each_frame_once(
    tmp_path: Path, live: bool, images: int
) -> None:
    video = AnnotatedVideo(tmp_path / "out.avi", [Origin("0", live, 10.0)])
    for at_s in (0.0, 1.0, 2.0):
        video.write(frame_at(at_s), result(top_k=TWO))
    video.close()
    found = read_video(tmp_path / "out.avi")
    assert len(found) == images
    assert found[0][:5].mean() < 120 < found[0][-10:].mean(), "the answer is written on it"


def test_each_source_has_an_annotated_video_of_its_own(tmp_path: Path) -> None:
    video = AnnotatedVideo(tmp_path / "out.avi", [Origin("0", True, None), Origin("1", True, 5.0), Origin("2", True, 5.0)])
    for source in (0, 1):
        video.write(frame_at(0.0, source=source), result(source=source))
    video.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-0.avi", "out-1.avi"]


def test_a_full_disk_is_an_error_and_what_was_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = AnnotatedVideo(tmp_path / "out.avi", [Origin("0", False, 10.0)])
    video.write(frame_at(0.0), result())
    with monkeypatch.context() as patch:
        patch.setattr(disk, "KEEP_FREE_BYTES", 10**18)
        with pytest.raises(OutputError, match=r"the disk of .* is full: .* make room"):
            video.write(frame_at(1.0), result())
    video.write(frame_at(2.0), result())
    video.close()
    assert len(read_video(tmp_path / "out.avi")) == 2
