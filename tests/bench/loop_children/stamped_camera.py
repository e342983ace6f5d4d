"""An HTTP camera in a process of its own: 640x480 JPEG frames at a steady rate, each with its time of sending in it.

It prints its address. As cameras do, it sends what is newest: frames that a slow reader has no room for are never made.
"""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
from measured import stamp


def picture() -> np.ndarray:
    """Return a frame about as hard to compress as a photograph."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (60, 80, 3), np.uint8)
    return cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC)


class Camera(BaseHTTPRequestHandler):
    """Streams until the reader goes."""

    fps = 30.0

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        frame_bgr, began_s, number = picture(), time.monotonic(), 0
        while True:
            number = max(number + 1, int((time.monotonic() - began_s) * self.fps))
            time.sleep(max(0.0, began_s + number / self.fps - time.monotonic()))
            stamp(frame_bgr, time.monotonic_ns())
            _, jpeg = cv2.imencode(".jpg", frame_bgr, [cv2.IMWRITE_JPEG_QUALITY, 80])
            try:
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg.tobytes() + b"\r\n")
            except OSError:
                return

    def log_message(self, *arguments: object) -> None:
        """Say nothing of requests."""


if __name__ == "__main__":
    cv2.setNumThreads(1)
    Camera.fps = float(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.daemon_threads = True
    print(f"http://127.0.0.1:{server.server_port}/stream", flush=True)
    server.serve_forever()
