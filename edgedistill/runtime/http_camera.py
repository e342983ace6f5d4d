"""Cameras over http:// and https://: MJPEG streams and addresses of single pictures, with everything they send being bounded.

Everything else, such as a video on a web server, is OpenCV's business.
"""

from __future__ import annotations

import http.client
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from edgedistill.errors import SourceError
from edgedistill.runtime.address import Address
from edgedistill.runtime.compressed import decode
from edgedistill.runtime.frames import Capture, Traits
from edgedistill.runtime.http_answer import READ_S, Answer, Login, ask, cut, time_limit
from edgedistill.runtime.multipart import MOST_PART_BYTES, Multipart, MultipartError, boundary_of
from edgedistill.runtime.wishes import Wishes

#: A picture of more pixels is not decoded.
MOST_PIXELS = 50_000_000
#: Pictures a second that an address of single pictures is asked for without a wish.
SNAPSHOT_FPS = 5.0
READ_BYTES = 1 << 16
#: How many reads may go on after a whole picture, to get at a newer one that has come already.
MOST_READS_AHEAD = 64


def open_http(text: str, wishes: Wishes, *, otherwise: Callable[[str], Capture]) -> Capture:
    """Open a camera over HTTP; what is no camera's answer goes to `otherwise`. Raises SourceError, without credentials."""
    address, login = Address.parse(text), Login()
    answer = ask(address, login)
    kind = answer.content_type
    if kind.startswith("multipart/"):
        return MjpegCapture(answer)
    if kind.startswith("image/"):
        return SnapshotCapture(answer, login, fps=wishes.fps or SNAPSHOT_FPS)
    answer.close()
    if kind.startswith("text/"):
        raise SourceError(f"{address.name} gives a page ({kind}) and no pictures; look in it for the address of the stream or snapshot")
    return otherwise(text)


class MjpegCapture:
    """A `Capture` of a multipart stream; of pictures that have come already, the newest is taken."""

    def __init__(self, answer: Answer) -> None:
        self.traits = Traits(answer.address.name, live=True, ends=False)
        self._answer = answer
        self._multipart = Multipart(boundary_of(answer.response.headers.get("Content-Type", "")))
        self._data = b""

    def grab(self) -> bool:
        """Wait for a picture; a stream that breaks off, or cannot be read any further, has no more."""
        parts: list[bytes] = []
        try:
            while not parts:
                if not self._feed(parts):
                    return False
            for _ in range(MOST_READS_AHEAD):
                if not select.select([self._answer.line], [], [], 0)[0] or not self._feed(parts):
                    break
        except MultipartError as error:
            raise SourceError(f"{self.traits.name} {error}") from None
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            if not parts:
                return False
        self._data = parts[-1]
        return True

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        frame_bgr = decode(self._data, most_pixels=MOST_PIXELS)
        return frame_bgr is not None, frame_bgr

    def interrupt(self) -> None:
        self._answer.hang_up()

    def release(self) -> None:
        self._answer.close()

    def _feed(self, parts: list[bytes]) -> bool:
        """Read once; return whether there may be more."""
        data = self._answer.response.read1(READ_BYTES)
        parts += self._multipart.feed(data)
        return bool(data) and not self._multipart.finished


class SnapshotCapture:
    """A `Capture` that asks an address for one picture after the other, `fps` a second at most, over one connection where it stays open."""

    def __init__(self, answer: Answer, login: Login, *, fps: float) -> None:
        self.traits = Traits(answer.address.name, live=True, ends=False, fps=fps)
        self._answer: Answer | None = answer
        self._address, self._connection, self._line, self._login = answer.address, answer.connection, answer.line, login
        self._interval_s = 1 / fps
        self._next_s = time.monotonic()
        self._data = b""
        self._over = threading.Event()

    def grab(self) -> bool:
        self._over.wait(max(0.0, self._next_s - time.monotonic()))
        if self._over.is_set():
            return False
        self._next_s = max(self._next_s + self._interval_s, time.monotonic())
        try:
            with time_limit(self._line, READ_S):
                self._data = self._picture()
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            return False
        return True

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        frame_bgr = decode(self._data, most_pixels=MOST_PIXELS)
        return frame_bgr is not None, frame_bgr

    def interrupt(self) -> None:
        self._over.set()
        cut(self._line)

    def release(self) -> None:
        self.interrupt()
        with suppress(OSError):
            self._connection.close()
        with suppress(OSError):
            self._line.close()

    def _picture(self) -> bytes:
        """Return the next picture's bytes; raises SourceError where it is none."""
        answer, self._answer = self._answer or self._ask_again(), None
        data = answer.response.read(MOST_PART_BYTES + 1)
        if len(data) > MOST_PART_BYTES:
            raise SourceError(f"{self.traits.name} sends a picture of more than {MOST_PART_BYTES:,} bytes")
        if answer.response.will_close:
            answer.close()
        return data

    def _ask_again(self) -> Answer:
        """Ask for the next picture over the connection, or over a new one if it has been closed."""
        if self._connection.sock is not None:
            self._connection.request("GET", self._address.target, headers=self._login.header(self._address))
            response = self._connection.getresponse()
            if response.status == 200:
                return Answer(self._address, self._connection, self._line, response)
            response.close()
            self._connection.close()
        answer = ask(self._address, self._login)
        self._address, self._connection, self._line = answer.address, answer.connection, answer.line
        return answer
