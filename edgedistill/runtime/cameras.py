"""Sources that are live: cameras of this machine, and streams from the network."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import cv2

from edgedistill.errors import SourceError
from edgedistill.runtime.address import redact
from edgedistill.runtime.files import video_capture
from edgedistill.runtime.frames import CAPTURE_THREAD, Opening, Traits, leave_signals_to_main
from edgedistill.runtime.opencv import OpenCvCapture, StreamCapture, quiet
from edgedistill.runtime.wishes import Wishes

log = logging.getLogger("edgedistill.runtime")

WISHES = Wishes()

#: What a camera is asked for; small networks look at less than this, and every camera has it.
WIDTH, HEIGHT, FPS = 640, 480, 30
MJPG = "MJPG"
NETWORK_TIMEOUT_MS, READ_TIMEOUT_MS = 8_000, 3_000
JOIN_S = 0.1
#: A stream that says a higher rate means something else by it.
MOST_FPS = 240
#: Video nodes that are codecs and image processors, not cameras.
NOT_CAMERAS = ("codec", "-isp", "pispbe", "hevc", "unicam-embedded")


class Camera(NamedTuple):
    """A camera that the kernel knows; one on USB mostly has a serial number, which stays when its device's number changes."""

    device: str
    name: str
    serial: str | None = None


def cameras(root: Path = Path("/")) -> list[Camera]:
    """Return the cameras of this machine without opening any; Linux only, elsewhere an empty list."""
    found = []
    for node in sorted((root / "sys/class/video4linux").glob("video*"), key=lambda path: (len(path.name), path.name)):
        try:
            name, index = (node / "name").read_text().strip(), (node / "index").read_text().strip()
        except OSError:  # the camera was unplugged just now
            continue
        if index == "0" and not any(word in name.lower() for word in NOT_CAMERAS):
            found.append(Camera(f"/dev/{node.name}", name, _serial(node)))
    return found


def _serial(node: Path) -> str | None:
    """Return the serial number of the USB device that a video node's interface belongs to."""
    try:
        return ((node / "device").resolve().parent / "serial").read_text().strip() or None
    except OSError:
        return None


def camera(text: str, wishes: Wishes) -> Opening:
    """Return how to open a camera by its index or its /dev/videoN."""
    device = f"/dev/video{int(text)}" if text.isdecimal() else text
    return lambda: open_camera(device, wishes)


def usb_camera(text: str, wishes: Wishes) -> Opening:
    """Return how to open `usb:SERIAL`, by a serial number or a part of it that only one camera has, wherever it is plugged in then."""
    serial = text.partition(":")[2]
    if not serial:
        raise SourceError(f"usb: needs a serial number, such as usb:ABC123, or a part of it; {_what_there_is()}")
    return lambda: open_camera(device_of(serial), wishes, name=f"usb:{serial}")


def device_of(serial: str) -> str:
    """Return the device of the one camera whose serial number is this, or has it as a part; raises SourceError."""
    there = [found for found in cameras() if found.serial]
    fitting = [found for found in there if found.serial == serial] or [found for found in there if serial in (found.serial or "")]
    if len(fitting) == 1:
        return fitting[0].device
    what = "there is no camera with" if not fitting else f"{len(fitting)} cameras have"
    raise SourceError(f"{what} the serial number {serial}; {_what_there_is()}")


def open_camera(device: str, wishes: Wishes = WISHES, *, name: str | None = None) -> OpenCvCapture:
    """Open a camera by its /dev/videoN; raises SourceError."""
    linux = sys.platform.startswith("linux")
    if linux and not Path(device).exists():
        raise SourceError(f"there is no camera {device}; {_what_there_is()}")
    if linux and not os.access(device, os.R_OK | os.W_OK):
        raise SourceError(f"no permission to use {device}; add yourself to its group: sudo usermod -aG video $USER, then log in again")
    # A camera that was unplugged is told after so many seconds, in place of ten.
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(READ_TIMEOUT_MS // 1000))
    index, backend = int(device.removeprefix("/dev/video")), cv2.CAP_V4L2 if linux else cv2.CAP_ANY
    capture = opened(device, lambda: cv2.VideoCapture(index, backend))
    if not capture.isOpened():
        raise SourceError(f"{device} does not open as a camera: another program may be using it; {_what_there_is()}")
    negotiated = negotiate(capture, wishes)
    if negotiated:
        log.warning("%s: %s", name or device, negotiated)
    fps = capture.get(cv2.CAP_PROP_FPS)
    traits = Traits(name or device, live=True, ends=False, fps=fps if fps > 0 else None, negotiated=negotiated)
    return OpenCvCapture(capture, traits)


def negotiate(capture: cv2.VideoCapture, wishes: Wishes) -> str:
    """Ask a camera for a format, and return in what its answer differs; an empty text if it does not."""
    asked = (wishes.width or WIDTH, wishes.height or HEIGHT, wishes.fps or FPS)
    # The format comes before the size, or drivers fall back to raw frames, which USB carries at a fraction of the rate.
    capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*MJPG))
    for key, value in zip((cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS), asked, strict=True):
        capture.set(key, value)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    width, height, fps = (capture.get(key) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS))
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    given = bytes(code >> shift & 0xFF for shift in (0, 8, 16, 24)).decode("latin-1") if code > 0 else MJPG
    wanted = described(*asked[:2], MJPG, asked[2])
    got = described(width, height, given, fps)
    return "" if wanted == got else f"asked for {wanted}, got {got}"


def described(width: float, height: float, code: str, fps: float) -> str:
    """Return a camera's format in words."""
    return f"{width:.0f}x{height:.0f} {code} {fps:g} fps"


def _what_there_is() -> str:
    found = cameras()
    if not found:
        return "no camera was found on this machine; plug one in, or try --source test://"
    return "found: " + ", ".join(f"{one.device} ({one.name})" + (f" usb:{one.serial}" if one.serial else "") for one in found)


def open_stream(text: str) -> OpenCvCapture:
    """Open an http:// or https:// stream by OpenCV; a video file on a web server is read like a file, frame by frame."""
    name = redact(text)
    quiet()
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, NETWORK_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS]
    capture = opened(name, lambda: cv2.VideoCapture(text, cv2.CAP_FFMPEG, timeouts))
    if not capture.isOpened():
        raise SourceError(
            f"{name} does not open within {NETWORK_TIMEOUT_MS // 1000} s; check the address, user name and password, and the network"
        )
    if capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:
        return video_capture(capture, name)
    check_picture(capture, name)
    return StreamCapture(capture, Traits(name, live=True, ends=False, fps=nominal_fps(capture)))


def check_picture(capture: cv2.VideoCapture, name: str) -> None:
    """Close a stream again and raise SourceError if nothing came while it was opened: OpenCV may decode none of it later either."""
    if capture.get(cv2.CAP_PROP_FRAME_WIDTH) <= 0:
        capture.release()
        raise SourceError(f"{name} opens, but sends no picture; check that the camera is well")


def nominal_fps(capture: cv2.VideoCapture) -> float | None:
    """Return the rate that a stream says it has; None where it says none, or a time base in its place."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps <= MOST_FPS else None


def opened(name: str, call: Callable[[], cv2.VideoCapture]) -> cv2.VideoCapture:
    """Call an opening that may block for long, in a thread, so that a signal still ends the process."""
    found: list[cv2.VideoCapture] = []

    def attempt() -> None:
        leave_signals_to_main()
        with suppress(cv2.error):  # OpenCV's message would show the whole address
            found.append(call())

    thread = threading.Thread(target=attempt, name=f"{CAPTURE_THREAD}{name}", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(JOIN_S)
    if not found:
        raise SourceError(f"{name} does not open: OpenCV failed; check the address, or that the camera is connected")
    return found[0]
