"""The source `picamera:0`: a camera on a Raspberry Pi's ribbon cable, by picamera2.

The image processor scales: the `lores` stream comes at the wished size. A frame is copied once out of the camera's memory, which
processors read slowly, and that memory goes back to the camera at once. Checked against picamera2's source and a stand-in of it.
"""

from __future__ import annotations

import importlib
import logging
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

import cv2
import numpy as np

from edgedistill.errors import SourceError
from edgedistill.runtime.frames import Opening, Traits
from edgedistill.runtime.wishes import Wishes

log = logging.getLogger("edgedistill.runtime")

#: What the frames fit into without a wish, and how many a second there are.
WIDTH, HEIGHT, FPS = 640, 480, 30.0
#: How long one wait for a frame lasts, so that an interruption is seen in time, and how long all of them last.
WAIT_S, SILENT_S = 0.1, 5.0
INSTALL = "sudo apt install python3-picamera2, and make the virtual environment with python3 -m venv --system-site-packages"
#: Formats are named by libcamera from the highest byte of a little-endian word: RGB888 lies in memory as blue, green, red.
TO_BGR: dict[str, int | None] = {
    "RGB888": None,
    "BGR888": cv2.COLOR_RGB2BGR,
    "XRGB8888": cv2.COLOR_BGRA2BGR,
    "XBGR8888": cv2.COLOR_RGBA2BGR,
    "YUV420": cv2.COLOR_YUV2BGR_I420,
    "YVU420": cv2.COLOR_YUV2BGR_YV12,
}
CHANNELS = {"RGB888": 3, "BGR888": 3, "XRGB8888": 4, "XBGR8888": 4}


def picamera(text: str, wishes: Wishes) -> Opening:
    """Return how to open `picamera:NUMBER`."""
    number = text.partition(":")[2] or "0"
    if not re.fullmatch("[0-9]{1,2}", number):
        raise SourceError(f"{text}: expected the camera's number, such as picamera:0; rpicam-hello --list-cameras shows them")
    return lambda: open_picamera(int(number), wishes)


def open_picamera(number: int, wishes: Wishes) -> PicameraCapture:
    """Open and start a camera; raises SourceError without a recent picamera2, and if it is not there or used elsewhere."""
    try:
        picamera2, libcamera = importlib.import_module("picamera2"), importlib.import_module("libcamera")
    except Exception as error:  # also what a numpy of another version makes of it
        raise SourceError(f"picamera:{number} needs picamera2, which does not load ({error}): {INSTALL}") from error
    if not hasattr(picamera2.Picamera2, "cancel_all_and_flush"):  # nor would it wait for a limited time
        raise SourceError(f"picamera:{number} needs a newer picamera2: sudo apt update && sudo apt install python3-picamera2")
    there = [str(info.get("Model", "unknown")) for info in picamera2.Picamera2.global_camera_info()]
    if number >= len(there):
        found = ", ".join(f"picamera:{place} ({model})" for place, model in enumerate(there)) or "none; check the ribbon cable"
        raise SourceError(f"there is no camera picamera:{number}; found: {found}")
    camera = None
    try:
        camera = picamera2.Picamera2(number)
        configure(camera, wishes, libcamera.ColorSpace.Smpte170m())
        camera.start()
        return PicameraCapture(camera, _traits(number, camera, wishes))
    except Exception as error:  # libcamera's errors are of many kinds
        if camera is not None:
            with suppress(Exception):  # the first error is the one to tell
                camera.close()
        raise SourceError(f"picamera:{number} does not start: {error}; check that no other program uses it, and its cable") from error


def configure(camera: Any, wishes: Wishes, colour_space: Any) -> None:
    """Ask for the whole view of the sensor in `lores` frames that fit into the wished size.

    Colours: BT.601 with limited range (`colour_space`), which is what OpenCV takes YUV for.
    """
    sensor_w, sensor_h = camera.sensor_resolution
    size = fit((sensor_w, sensor_h), wishes)
    interval_us = round(1e6 / (wishes.fps or FPS))
    options = {
        "main": {"size": size, "format": "YUV420"},  # must be there, at least as large as lores; nothing reads it
        "raw": None,
        # Half the sensor's pixels each way is the mode that bins, at full view; small modes cut the edges off.
        "sensor": {"output_size": (sensor_w // 2, sensor_h // 2)},
        "colour_space": colour_space,
        "controls": {"FrameDurationLimits": (interval_us, interval_us)},
        "buffer_count": 4,
        "queue": False,  # no frame is kept back from before it was asked for
        "display": None,
        "encode": None,
    }
    try:
        camera.configure(camera.create_video_configuration(lores={"size": size, "format": "RGB888"}, **options))
    except RuntimeError:  # Raspberry Pi 4 and older: its second stream is always YUV
        camera.configure(camera.create_video_configuration(lores={"size": size, "format": "YUV420"}, **options))


def fit(sensor_wh: tuple[int, int], wishes: Wishes) -> tuple[int, int]:
    """Return the largest even (width, height) of the sensor's shape within the wished size: another shape would distort."""
    sensor_w, sensor_h = sensor_wh
    width, height = wishes.width, wishes.height
    if width is None and height is None:
        width, height = WIDTH, HEIGHT
    scale = min(1.0, (width or sensor_w) / sensor_w, (height or sensor_h) / sensor_h)
    return max(32, round(sensor_w * scale / 2) * 2), max(32, round(sensor_h * scale / 2) * 2)


def _traits(number: int, camera: Any, wishes: Wishes) -> Traits:
    lores = camera.camera_configuration()["lores"]
    (width, height), fps = lores["size"], wishes.fps or FPS
    asked = f"{wishes.width or WIDTH}x{wishes.height or HEIGHT}"
    got = f"{width}x{height} {lores['format']} {fps:g} fps, the whole view of a sensor of {'x'.join(map(str, camera.sensor_resolution))}"
    return Traits(f"picamera:{number}", live=True, ends=False, fps=fps, negotiated=f"asked {asked} {fps:g} fps, got {got}")


class PicameraCapture:
    """A `Capture` of a started picamera2 camera's `lores` stream."""

    def __init__(self, camera: Any, traits: Traits) -> None:
        self.traits = traits
        self._camera = camera
        self._stream: dict[str, Any] = camera.camera_configuration()["lores"]
        self._to_bgr = converter(self._stream)
        self._job: Any = None
        self._buffer = np.empty(0, np.uint8)
        self._interrupted = threading.Event()

    def grab(self) -> bool:
        request = self._next_request()
        if request is None:
            return False
        try:
            self._buffer = request.make_buffer("lores")
        finally:
            request.release()
        return True

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        return True, self._to_bgr(self._buffer)

    def interrupt(self) -> None:
        self._interrupted.set()

    def release(self) -> None:
        """Stop and close the camera, and give back the frame that may just have come; blocks where libcamera does."""
        try:
            if self._job is not None:
                self._camera.cancel_all_and_flush()
                with suppress(CancelledError, TimeoutError):
                    self._camera.wait(self._job, SILENT_S).release()
        except Exception as error:
            log.warning("%s: the last frame could not be given back: %s", self.traits.name, error)
        try:
            self._camera.stop()
        finally:
            self._camera.close()

    def _next_request(self) -> Any:
        """Return the next request; None if the camera stays silent or an interruption comes.

        A request that was asked for is waited for again by the next call: left alone, it would never be released.
        """
        self._job = self._job or self._camera.capture_request(wait=False)
        until_s = time.monotonic() + SILENT_S
        while not self._interrupted.is_set() and time.monotonic() < until_s:
            with suppress(TimeoutError):
                request = self._camera.wait(self._job, WAIT_S)
                self._job = None
                return request
        return None


def converter(stream: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """Return what turns the bytes of a stream (`format`, `size` and `stride` as configured) into (H, W, 3) uint8 BGR."""
    name, (width, height), stride = stream["format"], stream["size"], stream["stride"]
    if name not in TO_BGR:
        raise SourceError(f"the camera gives frames as {name}; expected one of {', '.join(TO_BGR)}")
    code, channels = TO_BGR[name], CHANNELS.get(name)

    def convert(data: np.ndarray) -> np.ndarray:
        if channels is None:  # planes: rows of the colour planes are half as long, two to a row of this picture
            assert code is not None
            rows = height * 3 // 2
            return cv2.cvtColor(data[: rows * stride].reshape(rows, stride), code)[:, :width]
        pixels = data[: height * stride].reshape(height, stride)[:, : width * channels].reshape(height, width, channels)
        return pixels if code is None else cv2.cvtColor(pixels, code)

    return convert
