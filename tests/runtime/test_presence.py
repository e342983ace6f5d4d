"""Whether a source could be there again, and what a live source makes of that."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import numpy as np
import pytest
from http_camera_server import HttpCamera

from edgedistill.errors import SourceError
from edgedistill.runtime.cameras import Camera
from edgedistill.runtime.frames import Capture
from edgedistill.runtime.live import LiveSource
from edgedistill.runtime.pace import Timing
from edgedistill.runtime.presence import presence
from edgedistill.runtime.sources import open_source


@pytest.mark.parametrize("scheme", ["http", "https", "rtsp"])
def test_a_network_camera_is_there_once_it_takes_a_connection(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        there = presence(scheme, f"{scheme}://user:word@127.0.0.1:{listener.getsockname()[1]}/stream")
        assert there is not None
        assert there()
    assert not there()


def test_a_device_is_there_once_its_file_is(tmp_path: Path) -> None:
    there = presence("camera", str(tmp_path / "video0"))
    assert there is not None
    assert not there()
    (tmp_path / "video0").touch()
    assert there()


def test_a_usb_camera_is_there_wherever_it_is_plugged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    plugged: list[Camera] = []
    monkeypatch.setattr("edgedistill.runtime.cameras.cameras", lambda: plugged)
    there = presence("usb", "usb:AB12")
    assert there is not None
    assert not there()
    plugged.append(Camera("/dev/video4", "cam", "AB12"))
    assert there()


@pytest.mark.parametrize(
    ("kind", "text"), [("picamera", "picamera:0"), ("gst", "gst:videotestsrc"), ("test", "test://"), ("video", "a.mp4")]
)
def test_elsewhere_there_is_no_cheap_way(kind: str, text: str) -> None:
    assert presence(kind, text) is None


def test_a_name_that_none_can_have_is_not_there() -> None:
    there = presence("http", f"http://{'a' * 80}.invalid/")
    assert there is not None
    assert not there()


def test_after_a_long_outage_a_source_is_opened_soon_after_it_has_come_back() -> None:
    """The pause has grown to half a minute by then; what is there but cannot be opened is not asked more often for that."""
    timing = Timing(first_retry_s=0.02, eager_s=0.0, longest_retry_s=30.0, jitter=0)
    is_there = [True]
    opened_s: list[float] = []

    def opening() -> Capture:
        opened_s.append(time.monotonic())
        raise SourceError("it does not open")

    with LiveSource(opening, timing=timing, there=lambda: is_there[0]) as source:
        source.read(0.0)
        time.sleep(0.8)
        attempts = len(opened_s)
        assert attempts <= 7, "it was there all the time, and each attempt failed"
        is_there[0] = False
        time.sleep(0.2)
        assert len(opened_s) <= attempts + 1
        is_there[0] = True
        back_s, before = time.monotonic(), len(opened_s)
        while len(opened_s) == before:
            assert time.monotonic() - back_s < 2.0
            time.sleep(0.005)


@pytest.mark.slow
def test_an_outage_of_half_a_minute_of_a_real_camera() -> None:
    frames = [np.full((48, 64, 3), grey, np.uint8) for grey in range(0, 250, 25)]
    with HttpCamera(frames, fps=20) as camera, open_source(camera.address) as source:
        assert source.read(10.0) is not None
        camera.outage()
        end_s = time.monotonic() + 30
        while time.monotonic() < end_s:
            source.read(0.2)
        before = source.counts.captured
        camera.back()
        back_s = time.monotonic()
        while source.counts.captured == before:
            source.read(0.05)
            assert time.monotonic() - back_s < 2.0
    assert source.counts.reconnects == 1
