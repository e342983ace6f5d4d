"""Videos and images as sources, whole and broken ones."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from reading import read_all

from edgedistill.errors import SourceError
from edgedistill.runtime.ending import CaptureSource
from edgedistill.runtime.files import image_paths, open_images, open_video
from edgedistill.runtime.frames import Frame, Source

GREYS = [20, 60, 100, 140, 180, 220]


def write_video(path: Path, greys: list[int], *, fourcc: str = "MJPG") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*fourcc), 25, (64, 48))
    assert writer.isOpened()
    for grey in greys:
        writer.write(np.full((48, 64, 3), grey, np.uint8))
    writer.release()
    return path


def drained(source: Source) -> list[Frame]:
    with source:
        return read_all(source)


@pytest.mark.parametrize(("name", "fourcc"), [("clip.avi", "MJPG"), ("clip.mp4", "mp4v")])
def test_a_video_gives_its_frames_in_order(tmp_path: Path, name: str, fourcc: str) -> None:
    source = CaptureSource(open_video(str(write_video(tmp_path / name, GREYS, fourcc=fourcc))))
    assert (source.live, source.fps) == (False, 25.0)
    frames = drained(source)
    assert [frame.id for frame in frames] == list(range(len(GREYS)))
    np.testing.assert_allclose([frame.frame_bgr.mean() for frame in frames], GREYS, atol=4)
    assert (source.dropped, source.skipped) == (0, 0)


def test_a_truncated_video_gives_what_is_left_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_video(tmp_path / "clip.avi", [*range(20, 220, 2)])
    os.truncate(path, path.stat().st_size // 2)
    source = CaptureSource(open_video(str(path)))
    frames = drained(source)
    assert 10 < len(frames) < 90
    assert source.skipped == 100 - len(frames)
    assert f"{source.skipped} of 100 frames could not be read" in caplog.text


@pytest.mark.parametrize("content", [b"", b"this is no video" * 100], ids=["empty", "text"])
def test_a_file_that_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"clip\.mp4 is not a video that OpenCV reads"):
        open_video(str(path))


def test_an_mp4_that_lost_its_end_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", GREYS, fourcc="mp4v")
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(SourceError, match="cut short"):
        open_video(str(path))


def test_a_video_without_frames_is_an_error(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", [])
    with pytest.raises(SourceError):
        drained(CaptureSource(open_video(str(path))))


def test_a_pipe_is_no_video(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "clip.mp4")
    with pytest.raises(SourceError, match="no file"):
        open_video(str(tmp_path / "clip.mp4"))


def test_a_missing_video_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        open_video(str(tmp_path / "missing.mp4"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of three images, a text file and a folder with another image."""
    for name, grey in (("b.png", 20), ("a.JPG", 100), ("c.bmp", 200), ("below/d.png", 7)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.full((5, 7, 3), grey, np.uint8))
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("", ["a.JPG", "b.png", "c.bmp"]),
        ("*.png", ["b.png"]),
        ("**/*.png", ["b.png", "d.png"]),
        ("c.bmp", ["c.bmp"]),
        ("*.txt", []),
        ("missing", []),
    ],
)
def test_which_images_a_text_stands_for(photos: Path, pattern: str, names: list[str]) -> None:
    assert [path.name for path in image_paths(f"{photos}/{pattern}")] == names


def test_a_name_with_glob_letters_is_taken_as_it_is(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a[1].png"), np.zeros((5, 7, 3), np.uint8))
    assert len(image_paths(str(tmp_path / "a[1].png"))) == 1


def test_images_come_sorted_and_in_colour(photos: Path) -> None:
    cv2.imwrite(str(photos / "aa.png"), np.full((3, 9), 50, np.uint8))
    frames = drained(CaptureSource(open_images(str(photos))))
    assert [frame.frame_bgr.shape for frame in frames] == [(5, 7, 3), (3, 9, 3), (5, 7, 3), (5, 7, 3)]
    np.testing.assert_allclose([frame.frame_bgr.mean() for frame in frames], [100, 50, 20, 200], atol=3)


@pytest.mark.parametrize("content", [b"", b"\x89PNG broken"], ids=["empty", "broken"])
def test_a_broken_image_is_named_skipped_and_counted(photos: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (photos / "broken.png").write_bytes(content)
    source = CaptureSource(open_images(str(photos)))
    assert [frame.id for frame in drained(source)] == [0, 1, 3]
    assert source.skipped == 1
    assert "broken.png is skipped: it is no image" in caplog.text


def test_an_image_that_vanished_is_named(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = CaptureSource(open_images(str(photos)))
    (photos / "b.png").unlink()
    assert len(drained(source)) == 2
    assert "b.png is skipped" in caplog.text


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"has no image; expected files that end in \.bmp"):
        open_images(str(tmp_path))
