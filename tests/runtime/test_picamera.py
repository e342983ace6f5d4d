"""Camera modules by a stand-in of picamera2 that counts requests: right colours, every request released, interruptions."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
from picamera2_stand_in import RED_BGR, ColorSpace, Picamera2

from edgedistill.errors import SourceError
from edgedistill.runtime import picamera as picamera_module
from edgedistill.runtime.pace import Timing
from edgedistill.runtime.picamera import TO_BGR, converter, fit, open_picamera, picamera
from edgedistill.runtime.sources import open_source
from edgedistill.runtime.wishes import Wishes

QUICK = Timing(stall_s=0.2, first_retry_s=0.02, eager_s=1e9, jitter=0)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Picamera2]]:
    """Put the stand-ins where picamera2 and libcamera would be, and yield the list of cameras that are opened."""
    for name, attribute in (("picamera2", Picamera2), ("libcamera", ColorSpace)):
        module = ModuleType(name)
        setattr(module, attribute.__name__, attribute)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(Picamera2, "opened", [])
    yield Picamera2.opened
    assert not any(camera.is_open or camera.started for camera in Picamera2.opened)
    assert all(camera.handed == camera.released for camera in Picamera2.opened)


@pytest.mark.parametrize(("platform", "pixels"), [("PISP", "RGB888"), ("VC4", "YUV420")])
@pytest.mark.parametrize("wishes", [Wishes(), Wishes(width=224, height=224), Wishes(width=100)])
def test_a_red_card_is_red(platform: str, pixels: str, wishes: Wishes, opened: list[Picamera2], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Picamera2, "platform", platform)
    capture = open_picamera(0, wishes)
    assert pixels in capture.traits.negotiated
    for _ in range(9):  # more than there are buffers
        assert capture.grab()
        decoded, frame_bgr = capture.retrieve()
        assert decoded
        assert frame_bgr is not None
        height, width = frame_bgr.shape[:2]
        assert width / height == pytest.approx(4608 / 2592, abs=0.06)
        assert np.abs(frame_bgr.reshape(-1, 3).astype(int) - RED_BGR).max() <= 8
    capture.release()
    assert [(camera.requested, camera.released) for camera in opened] == [(9, 9)]


@pytest.mark.parametrize("pixels", TO_BGR)
@pytest.mark.parametrize("size", [(64, 48), (100, 56), (34, 32)])
def test_every_format_with_padded_rows(pixels: str, size: tuple[int, int], opened: list[Picamera2]) -> None:
    camera = Picamera2()
    stream = {"size": size, "format": pixels}
    camera.configure(camera.create_video_configuration(main=dict(stream), lores=stream, raw=None, colour_space=ColorSpace.Smpte170m()))
    frame_bgr = converter(camera.camera_configuration()["lores"])(camera._frame())
    assert frame_bgr.shape == (size[1], size[0], 3)
    assert np.abs(frame_bgr.reshape(-1, 3).astype(int) - RED_BGR).max() <= 8
    camera.close()


def test_what_the_camera_is_asked_for(opened: list[Picamera2]) -> None:
    capture = open_picamera(0, Wishes(fps=10))
    config = opened[0].camera_configuration()
    assert config["lores"]["size"] == config["main"]["size"] == (640, 360)
    assert config["sensor"] == {"output_size": (2304, 1296)}
    assert config["controls"] == {"FrameDurationLimits": (100_000, 100_000)}
    assert (config["raw"], config["queue"], config["display"], config["encode"]) == (None, False, None, None)
    capture.release()


def test_a_format_that_is_not_known_is_told() -> None:
    with pytest.raises(SourceError, match="gives frames as NV12; expected one of RGB888"):
        converter({"format": "NV12", "size": (64, 48), "stride": 64})


def test_a_request_is_released_when_its_memory_cannot_be_read(opened: list[Picamera2]) -> None:
    capture = open_picamera(0, Wishes())
    opened[0].broken = True
    with pytest.raises(RuntimeError, match="mapped"):
        capture.grab()
    assert opened[0].released == 1
    capture.release()


@pytest.mark.parametrize("late", [False, True])
def test_a_silent_camera_can_be_interrupted_and_a_late_frame_is_given_back(late: bool, opened: list[Picamera2]) -> None:
    capture = open_picamera(0, Wishes())
    opened[0].silent = True
    threading.Timer(0.1, capture.interrupt).start()
    began_s = time.monotonic()
    assert not capture.grab()
    assert time.monotonic() - began_s < 2
    if late:
        opened[0].deliver()
    capture.release()
    assert (opened[0].requested, opened[0].handed) == (1, int(late))


def test_a_camera_that_stays_silent_has_no_more_frames_and_is_asked_once(opened: list[Picamera2], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picamera_module, "SILENT_S", 0.2)
    capture = open_picamera(0, Wishes())
    opened[0].silent = True
    assert not capture.grab()
    assert not capture.grab()
    opened[0].silent = False
    opened[0].deliver()
    assert capture.grab()
    assert opened[0].requested == 1
    capture.release()


def test_a_live_source_opens_a_silent_camera_again(opened: list[Picamera2]) -> None:
    with open_source("picamera:0", timing=QUICK) as source:
        first = source.read(5)
        assert first is not None
        opened[0].silent = True
        end_s = time.monotonic() + 10
        while len(opened) < 2 or source.status().state != "running":
            source.read(0.05)
            assert time.monotonic() < end_s, source.status()
        frame = source.read(5)
        assert frame is not None
        assert frame.id > first.id
        assert source.counts.stalls >= 1


def test_a_camera_that_is_not_there(opened: list[Picamera2]) -> None:
    with pytest.raises(SourceError, match=r"there is no camera picamera:1; found: picamera:0 \(imx708\)"):
        picamera("picamera:1", Wishes())()


def test_a_camera_that_is_used_elsewhere(opened: list[Picamera2]) -> None:
    capture = open_picamera(0, Wishes())
    with pytest.raises(SourceError, match=r"picamera:0 does not start: Camera __init__ .*no other program uses it"):
        open_picamera(0, Wishes())
    capture.release()


def test_a_camera_that_cannot_be_configured_is_closed_again(opened: list[Picamera2], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ColorSpace, "Smpte170m", lambda: "by name")
    with pytest.raises(SourceError, match="Colour space has incorrect type"):
        open_picamera(0, Wishes())
    assert [camera.is_open for camera in opened] == [False]


def test_a_picamera2_that_is_too_old_is_told(opened: list[Picamera2], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Picamera2, "cancel_all_and_flush")
    with pytest.raises(SourceError, match="picamera:0 needs a newer picamera2: sudo apt update && sudo apt install python3-picamera2"):
        open_picamera(0, Wishes())
    assert opened == []


def test_without_picamera2_the_install_line_is_told() -> None:
    with pytest.raises(SourceError, match="sudo apt install python3-picamera2"):
        picamera("picamera:0", Wishes())()


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [(Wishes(), (640, 360)), (Wishes(width=320), (320, 180)), (Wishes(height=480), (854, 480)), (Wishes(width=9000), (4608, 2592))],
)
def test_the_size_keeps_the_sensors_shape(wishes: Wishes, expected: tuple[int, int]) -> None:
    assert fit((4608, 2592), wishes) == expected
