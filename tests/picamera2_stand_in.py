"""A stand-in of picamera2 that takes and refuses what the real one does, and counts requests.

What its source says and this follows: which keys and formats a configuration may have; a `Job` has one result, however often it is
waited for, and is cancelled by `cancel_all_and_flush`; a request's memory is gone once it is released, which may be done once; a camera
all of whose buffers are held gives no frame. Frames are of one colour, in the configured format, their rows padded to the stride.
"""

from __future__ import annotations

from concurrent.futures import CancelledError, Future
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

STREAM_KEYS = {"format", "size", "stride", "preserve_ar"}
BYTES = {"RGB888": 3, "BGR888": 3, "XRGB8888": 4, "XBGR8888": 4}
PLANES = ("YUV420", "YVU420")
#: What strides are multiples of.
ALIGNED = 64
RED_BGR = (20, 20, 220)


class ColorSpace(SimpleNamespace):
    """A colour space of libcamera's; an object, not a name."""

    @classmethod
    def Smpte170m(cls) -> ColorSpace:  # noqa: N802
        return cls(name="smpte170m")


class Request:
    """A completed request: memory of the camera, that is gone once it was released."""

    def __init__(self, camera: Picamera2, data: np.ndarray) -> None:
        self._camera, self._data = camera, data
        self._references = 1
        camera.handed += 1

    def make_buffer(self, name: str) -> np.ndarray:
        if self._references == 0 or self._camera.camera_configuration().get(name) is None:
            raise RuntimeError(f"Stream {name!r} is not defined")
        if self._camera.broken:
            raise RuntimeError("the buffer cannot be mapped")
        return self._data.copy()

    def release(self) -> None:
        self._references -= 1
        if self._references < 0:
            raise RuntimeError("CompletedRequest: lock now has negative ref_count")
        self._camera.released += 1
        self._data[:] = 0
        self._camera.deliver()


class Picamera2:
    """A camera of the module `platform` says: on VC4 (Raspberry Pi 4 and older) the lores stream must be YUV, on PISP it may be RGB.

    Attributes:
        silent: no frame comes, until `deliver` or `cancel_all_and_flush`.
        broken: buffers cannot be read.
        handed: how many requests were given to the program, and `released` how many came back.
        opened: all cameras made since the list was emptied.
    """

    platform = "PISP"
    models = ("imx708",)
    opened: list[Picamera2] = []

    def __init__(self, camera_num: int = 0) -> None:
        if any(other.is_open for other in Picamera2.opened):
            raise RuntimeError("Camera __init__ sequence did not complete.")
        self.sensor_resolution = (4608, 2592)
        self.is_open, self.started, self.silent, self.broken = True, False, False, False
        self.requested = self.handed = self.released = 0
        self._config: dict[str, Any] | None = None
        self._jobs: list[Future[Request]] = []
        Picamera2.opened.append(self)

    @classmethod
    def global_camera_info(cls) -> list[dict[str, object]]:
        return [{"Model": model, "Location": 2, "Rotation": 180, "Id": f"/base/{model}", "Num": n} for n, model in enumerate(cls.models)]

    def create_video_configuration(
        self,
        main: dict[str, Any] = {},  # noqa: B006
        lores: dict[str, Any] | None = None,
        raw: dict[str, Any] | None = {},  # noqa: B006
        transform: object = None,
        colour_space: object = None,
        buffer_count: int = 6,
        controls: dict[str, Any] = {},  # noqa: B006
        display: str | None = "main",
        encode: str | None = "main",
        queue: bool = True,
        sensor: dict[str, Any] = {},  # noqa: B006
        use_case: str = "video",
    ) -> dict[str, Any]:
        streams: dict[str, dict[str, Any] | None] = {}
        for name, asked in (("main", {"size": (1280, 720), "format": "XBGR8888"} | main), ("lores", lores), ("raw", raw)):
            if asked is not None and not set(asked) <= STREAM_KEYS:
                raise ValueError(f"Bad key in {asked}: valid stream configuration keys are {sorted(STREAM_KEYS)}")
            streams[name] = None if asked is None else dict(asked)
        for name in filter(None, (display, encode)):
            if streams.get(name) is None:
                raise RuntimeError(f"stream {name} was not defined")
        rest = {"colour_space": colour_space, "buffer_count": buffer_count, "controls": controls, "queue": queue, "sensor": sensor}
        return {**streams, **rest, "display": display, "encode": encode, "use_case": use_case, "transform": transform}

    def configure(self, camera_config: dict[str, Any]) -> None:
        if self.started:
            raise RuntimeError("Camera must be stopped before configuring")
        self._config = None
        self._check(camera_config)
        lores = camera_config["lores"]
        row_bytes = lores["size"][0] * BYTES.get(lores["format"], 1)
        stride = -(-row_bytes // ALIGNED) * ALIGNED
        rows = lores["size"][1] * 3 // 2 if lores["format"] in PLANES else lores["size"][1]
        self._config = camera_config | {"lores": lores | {"stride": stride, "framesize": stride * rows}}

    def _check(self, config: dict[str, Any]) -> None:
        if not isinstance(config["colour_space"], ColorSpace):
            raise RuntimeError("Colour space has incorrect type")
        if not set(config["sensor"]) <= {"bit_depth", "output_size"}:
            raise RuntimeError("Unexpected keys in sensor configuration")
        for name in ("main", "lores"):
            size, pixels = config[name]["size"], config[name]["format"]
            if type(size) is not tuple or len(size) != 2 or size[0] % 2 or size[1] % 2:
                raise RuntimeError(f"size in {name} stream should be (width, height), both even")
            if pixels not in BYTES and pixels not in PLANES:
                raise RuntimeError(f"Bad format {pixels} in stream {name}")
        if any(side > most for side, most in zip(config["lores"]["size"], config["main"]["size"], strict=True)):
            raise RuntimeError("lores stream dimensions may not exceed main stream")
        if self.platform == "VC4" and config["lores"]["format"] not in PLANES:
            raise RuntimeError("lores stream must be YUV")

    def camera_configuration(self) -> dict[str, Any]:
        assert self._config is not None
        return self._config

    def start(self) -> None:
        if self._config is None:
            raise RuntimeError("Camera has not been configured")
        self.started = True

    def stop(self) -> None:
        self.started = False

    def close(self) -> None:
        self.stop()
        self.is_open, self._config = False, None

    def capture_request(self, wait: bool | float | None = None, signal_function: object = None, flush: object = None) -> Future[Request]:
        assert wait is False, "whoever waits here cannot be interrupted"
        self.requested += 1
        job: Future[Request] = Future()
        self._jobs.append(job)
        if not self.silent:
            self.deliver()
        return job

    def wait(self, job: Future[Request], timeout: float | None = None) -> Request:
        return job.result(timeout)

    def deliver(self) -> None:
        """Let a frame come for each request that is waited for, as far as there are buffers."""
        while self.started and self._jobs and self._config is not None and self.handed - self.released < self._config["buffer_count"]:
            self._jobs.pop(0).set_result(Request(self, self._frame()))

    def cancel_all_and_flush(self) -> None:
        for job in self._jobs:
            job.set_exception(CancelledError())
        self._jobs = []

    def _frame(self) -> np.ndarray:
        """Return the bytes of a red frame."""
        lores = self.camera_configuration()["lores"]
        (width, height), pixels, stride = lores["size"], lores["format"], lores["stride"]
        bgr = np.full((height, width, 3), RED_BGR, np.uint8)
        data = np.full(lores["framesize"], 77, np.uint8)  # what rows are padded with is anything
        if pixels in PLANES:
            planes = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420 if pixels == "YUV420" else cv2.COLOR_BGR2YUV_YV12)
            data[: height * stride].reshape(height, stride)[:, :width] = planes[:height]
            colours = data[height * stride :].reshape(2, height // 2, stride // 2)
            colours[:, :, : width // 2] = planes[height:].reshape(2, height // 2, width // 2)
        else:
            opaque = np.full((height, width), 255, np.uint8)
            order = bgr if pixels in ("RGB888", "XRGB8888") else bgr[..., ::-1]
            whole = order if BYTES[pixels] == 3 else np.dstack([order, opaque])
            data.reshape(height, stride)[:, : width * BYTES[pixels]] = whole.reshape(height, -1)
        return data
