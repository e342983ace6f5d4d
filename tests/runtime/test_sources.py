"""The text of `--source`: which kind it is, and what a wrong one is told."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes import FakeCamera
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.errors import SourceError
from edgedistill.runtime import sources
from edgedistill.runtime.cameras import Camera
from edgedistill.runtime.sources import SOURCES, kind_of, open_in_time, open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with one image and one file that is none."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "clip.avi").write_bytes(b"RIFF")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("0", "camera"),
        ("12", "camera"),
        ("/dev/video3", "camera"),
        ("http://host/stream", "http"),
        ("https://host/stream", "https"),
        ("rtsp://user:word@host/stream", "rtsp"),
        ("RTSP://host/stream", "rtsp"),
        ("test://", "test"),
        ("test://pattern?fps=5", "test"),
        ("usb:AB12", "usb"),
        ("picamera:0", "picamera"),
        ("picamera", "picamera"),
        ("gst:videotestsrc ! videoconvert", "gst"),
        ("gst:rtspsrc location=rtsp://user:word@host/stream ! decodebin", "gst"),
        ("-", "raw"),
        ("missing.jpg", "images"),
        ("photos/*.png", "images"),
        ("photos/**/*", "images"),
    ],
)
def test_kinds_told_by_their_text(text: str, kind: str) -> None:
    assert kind_of(text) == kind
    assert kind in SOURCES


@pytest.mark.parametrize(("name", "kind"), [("", "images"), ("a.png", "images"), ("clip.avi", "video"), ("*.png", "images")])
def test_kinds_told_by_what_is_there(folder: Path, name: str, kind: str) -> None:
    assert kind_of(f"{folder}/{name}") == kind


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip.mp4", "'clip.mp4' does not exist.*cameras found: none"),
        ("", "'' does not exist"),
        ("ftp://host/clip.mp4", "no source of the kind ftp://"),
        ("rstp://user:secret@host/x", "Did you mean 'rtsp'"),
        ("http:/user:secret@host/x", "the source '…@host/x' does not exist"),
        ("user:secret@host://x", "the source '…@host://x' does not exist"),
        ("user:secret@" + "x" * 5000, "cannot be read: File name too long"),
        ("test://user:secret@host?fps=x", "expected `float`, got `str`"),
        ("test://user:secret@host", "there is one test source"),
        ("no\0such", "cannot be read|does not exist"),
        ("usb:", "needs a serial number, such as usb:ABC123"),
        ("picamera:x", "expected the camera's number"),
        ("gst:", "needs a pipeline"),
        ("gst:videotestsrc", "OpenCV with GStreamer"),
        ("-", "whose size must be given: add --width and --height"),
    ],
)
def test_a_wrong_source_is_told_what_there_is(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "cameras", list)
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GStreamer:   NO")
    with pytest.raises(SourceError, match=message) as caught:
        open_source(text)
    assert "secret" not in str(caught.value)
    assert caught.value.exit_code == 4


def test_cameras_that_were_found_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "cameras", lambda: [Camera("/dev/video0", "A"), Camera("/dev/video2", "B")])
    with pytest.raises(SourceError, match="cameras found: /dev/video0, /dev/video2"):
        open_source("camera")


@given(st.text(max_size=30))
def test_any_text_is_a_kind_or_a_clear_error(text: str) -> None:
    with contextlib.suppress(SourceError):
        assert kind_of(text) in SOURCES


def test_a_pipeline_that_is_waited_for_tells_nothing_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GStreamer:   YES (1.22)")
    with open_source("gst:rtspsrc location=rtsp://cam/1 user-id=me user-pw=hunter2 ! decodebin", wait=True) as source:
        assert source.name == source.status().name == "gst"


def test_a_source_that_never_opens_is_given_up() -> None:
    free, camera = threading.Event(), FakeCamera([])

    def opening() -> FakeCamera:
        free.wait()
        return camera

    with pytest.raises(SourceError, match=r"cam does not open within 0\.05 s; check that it is connected"):
        open_in_time(opening, "cam", within_s=0.05)
    free.set()
    assert camera.released.wait(10), "what comes too late is given back"


def test_what_an_opening_raises_comes_out_of_its_thread() -> None:
    def refused() -> FakeCamera:
        raise SourceError("the camera refuses the password")

    with pytest.raises(SourceError, match="refuses the password"):
        open_in_time(refused, "cam")
    camera = FakeCamera([])
    assert open_in_time(lambda: camera, "cam") is camera
