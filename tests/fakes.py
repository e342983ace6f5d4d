"""Stand-ins for hardware and interpreters, that really do what they stand for: an engine, a camera with faults, a network camera."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

from edgedistill.bundle import ModelFile
from edgedistill.runtime.frames import Traits


class FakeEngine:
    """An `Engine` that answers with the class of the strongest of three channels, after `invoke_s`."""

    name, version, threads = "fake", "1.0", 1

    def __init__(self, model: ModelFile, *, invoke_s: float = 0.0) -> None:
        self.model = model
        self.invoke_s = invoke_s
        self.invoked = 0
        self._pixels_nhwc = np.zeros((1, 1, 1, 3), np.uint8)
        self._logits = np.zeros(3, np.float32)

    def input_pixels(self) -> np.ndarray | None:
        return None

    def set_input(self, pixels_nhwc: np.ndarray) -> None:
        self._pixels_nhwc = pixels_nhwc.copy()

    def copy_input(self, tensor: np.ndarray) -> None:
        self._pixels_nhwc = tensor.copy()

    def invoke(self) -> None:
        time.sleep(self.invoke_s)
        self.invoked += 1
        self._logits = self._pixels_nhwc.mean(axis=(0, 1, 2)).astype(np.float32) / 16

    def logits(self) -> np.ndarray:
        return self._logits.copy()

    def read_logits(self, into: np.ndarray) -> np.ndarray:
        into[:] = self._logits
        return into

    def run(self, pixels_nhwc: np.ndarray) -> np.ndarray:
        self.set_input(pixels_nhwc)
        self.invoke()
        return self.logits()


CAMERA = Traits("cam", live=True, ends=False)


class FakeCamera:
    """A `Capture` that delivers `frames`, one every `interval_s`, and then dies, or stalls until it is released by `unblock`.

    A frame that is None cannot be decoded; an exception among the frames is raised by `grab`. With `interruptible`, `interrupt`
    ends a stall as well.
    """

    def __init__(
        self,
        frames: Iterable[np.ndarray | Exception | None],
        *,
        interval_s: float = 0.0,
        then: str = "die",
        traits: Traits = CAMERA,
        interruptible: bool = False,
    ) -> None:
        self.traits, self.interruptible = traits, interruptible
        self._frames = iter(frames)
        self._frame: np.ndarray | None = None
        self.interval_s, self.then = interval_s, then
        self.unblock = threading.Event()
        self.interrupted = threading.Event()
        self.released = threading.Event()

    def grab(self) -> bool:
        time.sleep(self.interval_s)
        for frame in self._frames:
            if isinstance(frame, Exception):
                raise frame
            self._frame = frame
            return True
        if self.then == "stall":
            self.unblock.wait()
        return False

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        return self._frame is not None, self._frame

    def interrupt(self) -> None:
        self.interrupted.set()
        if self.interruptible:
            self.unblock.set()

    def release(self) -> None:
        self.released.set()


@contextmanager
def mjpeg_server(frames_bgr: list[np.ndarray], *, interval_s: float = 0.02, then: str = "die", password: str = "") -> Iterator[str]:
    """Serve frames as multipart JPEG over HTTP on 127.0.0.1 and yield the address; at the end the stream breaks off or stalls.

    Args:
        password: where given, requests must carry `user:PASSWORD`.
    """
    parts = [cv2.imencode(".jpg", frame)[1].tobytes() for frame in frames_bgr]
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if password and "Basic" not in self.headers.get("Authorization", ""):
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for part in parts:
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(part)}\r\n\r\n".encode()
                try:
                    self.wfile.write(head + part + b"\r\n")
                except OSError:  # the reader has gone
                    return
                over.wait(interval_s)
            if then == "stall":
                over.wait()

        def log_message(self, *arguments: object) -> None:
            """Keep requests out of the tests' output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/stream"
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()
