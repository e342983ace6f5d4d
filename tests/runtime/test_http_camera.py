"""Cameras over HTTP, over real sockets: streams and snapshots, passwords, redirects, and every way to misbehave."""

from __future__ import annotations

import logging
import threading
import time
from typing import get_args

import cv2
import numpy as np
import pytest
from http_camera_server import HttpCamera, Mode

from edgedistill.errors import SourceError
from edgedistill.runtime import http_answer
from edgedistill.runtime.frames import Capture
from edgedistill.runtime.http_camera import MjpegCapture, SnapshotCapture, open_http
from edgedistill.runtime.pace import Timing
from edgedistill.runtime.sources import open_source
from edgedistill.runtime.wishes import Wishes

GREYS = [40, 100, 160, 220]
FRAMES: list[np.ndarray | bytes] = [np.full((48, 64, 3), grey, np.uint8) for grey in GREYS]
QUICK = Timing(stall_s=0.3, open_s=1.0, first_retry_s=0.02, eager_s=1e9, jitter=0)


def opened(address: str, *, fps: float | None = None) -> Capture:
    def otherwise(text: str) -> Capture:
        raise SourceError("it went to OpenCV")

    return open_http(address, Wishes(fps=fps), otherwise=otherwise)


def greys(capture: Capture, count: int) -> list[float]:
    found = []
    for _ in range(count):
        assert capture.grab()
        decoded, frame_bgr = capture.retrieve()
        assert decoded
        assert frame_bgr is not None
        found.append(float(frame_bgr.mean()))
    return found


@pytest.mark.parametrize("boundary", ["frame", '"a b"', "--frame"])
def test_a_stream_gives_its_frames(boundary: str) -> None:
    with HttpCamera(FRAMES, fps=100) as camera:
        camera.boundary, camera.delimiter = boundary, "--" + boundary.strip('"').lstrip("-")
        capture = opened(camera.address)
        assert isinstance(capture, MjpegCapture)
        assert all(min(abs(grey - known) for known in GREYS) < 4 for grey in greys(capture, 8))
        capture.release()


def test_a_slow_reader_gets_the_newest_of_what_came() -> None:
    with HttpCamera(FRAMES, fps=200) as camera:
        capture = opened(camera.address)
        greys(capture, 1)
        time.sleep(0.4)
        sent = camera.sent
        greys(capture, 3)
        assert camera.sent - sent < 30, "it would have read what was old first"
        capture.release()


def test_snapshots_are_polled_no_faster_than_wished_over_one_connection() -> None:
    with HttpCamera(FRAMES) as camera:
        capture = opened(camera.snapshot, fps=25)
        assert isinstance(capture, SnapshotCapture)
        began_s = time.monotonic()
        greys(capture, 11)
        assert time.monotonic() - began_s >= 0.39
        assert camera.connections == 1
        assert capture.traits.fps == 25
        capture.release()


def test_a_snapshot_camera_that_closes_every_connection_is_asked_anew() -> None:
    with HttpCamera(FRAMES) as camera:
        camera.keep_alive = False
        capture = opened(camera.snapshot, fps=100)
        greys(capture, 5)
        assert camera.connections >= 5
        capture.release()


@pytest.mark.parametrize("auth", ["basic", "digest"])
@pytest.mark.parametrize("kind", ["address", "snapshot"])
def test_passwords(auth: str, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with HttpCamera(FRAMES, fps=100) as camera, caplog.at_level(logging.DEBUG):
        camera.auth, camera.password = auth, "hunter2"  # type: ignore[assignment]
        address = getattr(camera, kind)
        capture = opened(camera.with_password(address), fps=100)
        greys(capture, 3)
        capture.release()
        assert "hunter2" not in capture.traits.name
        with pytest.raises(SourceError, match="needs a user and password"):
            opened(address)
        with pytest.raises(SourceError, match="refuses the user or the password") as caught:
            opened(address.replace("://", "://user:wrong@"))
    assert "wrong" not in str(caught.value)
    assert "hunter2" not in caplog.text


def test_a_redirect_is_followed_and_a_circle_is_not() -> None:
    with HttpCamera(FRAMES, fps=100) as camera, HttpCamera(FRAMES) as first:
        first.redirect = camera.address
        capture = opened(first.address)
        greys(capture, 2)
        capture.release()
        first.redirect = first.address
        with pytest.raises(SourceError, match="sends on and on"):
            opened(first.address)


def test_a_password_is_not_sent_on_to_another_place() -> None:
    with HttpCamera(FRAMES, fps=100) as camera, HttpCamera(FRAMES) as first:
        first.auth, first.redirect = "basic", camera.address
        opened(first.with_password(first.address)).release()
        assert all("authorization" not in {name.lower() for name in headers} for _, _, headers in camera.requests)


@pytest.mark.parametrize(
    ("content_type", "message"), [("text/html", "gives a page"), ("video/mp4", "it went to OpenCV"), ("application/json", "went to OpenCV")]
)
def test_what_is_no_camera(content_type: str, message: str) -> None:
    with HttpCamera(FRAMES) as camera:
        camera.content_type = content_type
        with pytest.raises(SourceError, match=message):
            opened(camera.address)


def test_an_error_and_nobody_there() -> None:
    with HttpCamera(FRAMES) as camera:
        camera.mode = "error"
        with pytest.raises(SourceError, match="status 503"):
            opened(camera.address)
        address = camera.address
    with pytest.raises(SourceError, match="does not answer"):
        opened(address)


def test_a_camera_without_power_is_not_waited_for_long_and_a_slow_answer_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_answer, "CONNECT_S", 0.2)
    with HttpCamera(FRAMES, fps=2) as camera:
        with camera.unplugged(), pytest.raises(SourceError, match=r"does not answer \(it took too long\)"):
            opened(camera.address)
        capture = opened(camera.address)
        greys(capture, 2)
        capture.release()


@pytest.mark.parametrize("mode", ["endless_header", "huge_line", "stall"])
def test_an_opening_is_bounded(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_answer, "OPEN_S", 0.3)
    with HttpCamera(FRAMES) as camera:
        camera.mode = mode
        began_s = time.monotonic()
        message = ""
        try:
            capture = opened(camera.address)
            threading.Timer(0.2, capture.interrupt).start()
            assert not _grabbed(capture)
            capture.release()
        except SourceError as error:
            message = str(error)
        assert time.monotonic() - began_s < 5
        assert not message or "does not answer" in message


def _grabbed(capture: Capture) -> bool:
    try:
        return capture.grab()
    except SourceError:
        return False


@pytest.mark.parametrize("kind", ["address", "snapshot"])
def test_an_interruption_ends_a_blocked_read(kind: str) -> None:
    with HttpCamera(FRAMES, fps=100) as camera:
        capture = opened(getattr(camera, kind), fps=50)
        greys(capture, 1)
        camera.mode = "stall"
        threading.Timer(0.2, capture.interrupt).start()
        began_s = time.monotonic()
        while _grabbed(capture):
            assert time.monotonic() - began_s < 4
        assert time.monotonic() - began_s < 4
        capture.release()


@pytest.mark.parametrize("mode", get_args(Mode))
def test_it_comes_back_from_every_misbehaviour(mode: Mode) -> None:
    with HttpCamera(FRAMES, fps=60) as camera, open_source(camera.address, timing=QUICK) as source:
        for _ in range(3):
            assert source.read(10) is not None
        camera.mode = mode
        end_s = time.monotonic() + 0.6
        while time.monotonic() < end_s:
            source.read(0.05)
        camera.mode = "well"
        before = source.counts.captured - source.skipped
        end_s = time.monotonic() + 15
        while source.counts.captured - source.skipped < before + 3:
            source.read(0.05)
            assert time.monotonic() < end_s, source.status()


def test_pictures_that_lie_about_their_size_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: decoded.append(data))
    with HttpCamera(FRAMES, fps=100) as camera:
        camera.mode = "bomb"
        capture = opened(camera.address)
        assert capture.grab()
        assert capture.retrieve() == (False, None)
        capture.release()
    assert decoded == []
