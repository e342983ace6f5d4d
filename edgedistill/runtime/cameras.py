"""Sources that are live: cameras of this machine, and streams from the network."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import cv2

from edgedistill.errors import SourceError
from edgedistill.runtime.files import video_source
from edgedistill.runtime.frames import CAPTURE_THREAD, CaptureSource, Traits, leave_signals_to_main

#: What a camera is asked for; small networks look at less than this, and every camera has it.
WIDTH, HEIGHT, FPS = 640, 480, 30
NETWORK_TIMEOUT_MS = 10_000
JOIN_S = 0.1
#: Video nodes that are codecs and image processors, not cameras.
NOT_CAMERAS = ("codec", "-isp", "pispbe", "hevc", "unicam-embedded")


class Camera(NamedTuple):
    """A camera that the kernel knows."""

    device: str
    name: str


def cameras(root: Path = Path("/")) -> list[Camera]:
    """Return the cameras of this machine without opening any; Linux only, elsewhere an empty list."""
    found = []
    for node in sorted((root / "sys/class/video4linux").glob("video*"), key=lambda path: (len(path.name), path.name)):
        try:
            name, index = (node / "name").read_text().strip(), (node / "index").read_text().strip()
        except OSError:  # the camera was unplugged just now
            continue
        if index == "0" and not any(word in name.lower() for word in NOT_CAMERAS):
            found.append(Camera(f"/dev/{node.name}", name))
    return found


def open_camera(text: str) -> CaptureSource:
    """Open a camera by its index or its /dev/videoN."""
    device = f"/dev/video{int(text)}" if text.isdecimal() else text
    linux = sys.platform.startswith("linux")
    if linux and not Path(device).exists():
        raise SourceError(f"there is no camera {device}; {_what_there_is()}")
    if linux and not os.access(device, os.R_OK | os.W_OK):
        raise SourceError(f"no permission to use {device}; add yourself to its group: sudo usermod -aG video $USER, then log in again")
    index, backend = int(device.removeprefix("/dev/video")), cv2.CAP_V4L2 if linux else cv2.CAP_ANY
    capture = _opened(device, lambda: cv2.VideoCapture(index, backend))
    if not capture.isOpened():
        raise SourceError(f"{device} does not open as a camera: another program may be using it; {_what_there_is()}")
    # The format comes before the size, or drivers fall back to raw frames, which USB carries at a fraction of the rate.
    capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, WIDTH)
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, HEIGHT)
    capture.set(cv2.CAP_PROP_FPS, FPS)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    fps = capture.get(cv2.CAP_PROP_FPS)
    return CaptureSource(capture, Traits(device, live=True, ends=False, fps=fps if fps > 0 else None))


def _what_there_is() -> str:
    found = cameras()
    if not found:
        return "no camera was found on this machine; plug one in, or try --source test://"
    return "found: " + ", ".join(f"{camera.device} ({camera.name})" for camera in found)


def open_stream(text: str) -> CaptureSource:
    """Open an http://, https:// or rtsp:// stream; a video file on a web server is read like a file, frame by frame."""
    name = redact(text)
    # ffmpeg's own messages would show the whole address; its reader takes the level from here when it starts.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, NETWORK_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, NETWORK_TIMEOUT_MS]
    try:
        capture = _opened(name, lambda: cv2.VideoCapture(text, cv2.CAP_FFMPEG, timeouts))
    finally:
        cv2.utils.logging.setLogLevel(level)
    if not capture.isOpened():
        raise SourceError(
            f"{name} does not open within {NETWORK_TIMEOUT_MS // 1000} s; check the address, user name and password, and the network"
        )
    if capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:
        return video_source(capture, name)
    fps = capture.get(cv2.CAP_PROP_FPS)
    return CaptureSource(capture, Traits(name, live=True, ends=False, fps=fps if 0 < fps <= 240 else None))


def _opened(name: str, call: Callable[[], cv2.VideoCapture]) -> cv2.VideoCapture:
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


def redact(text: str) -> str:
    """Return an address without user, password and query, none of which may reach a log; other text as it is."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme == "test":
        return text
    address, _, query = rest.partition("?")
    # A password may hold slashes, at signs and question marks of its own: everything up to the last at sign goes.
    if "@" in query:
        address, query = query.rpartition("@")[2].partition("?")[::2]
    host = address.rpartition("@")[2]
    return f"{scheme}://{host.partition('#')[0]}" + ("?…" if query else "")
