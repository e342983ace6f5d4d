"""Pictures for the live page: the newest frame of a source, encoded once for all who look, and only while somebody does.

The thread here sleeps and encodes; the loop is only ever asked for its newest frame. It has a low priority, so that it takes
what the loop leaves; what it does is done outside of the interpreter's lock.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from edgedistill.runtime.frames import leave_signals_to_main
from edgedistill.runtime.monitor import Seen
from edgedistill.runtime.outputs.picture import annotate
from edgedistill.runtime.serve.options import ServeOptions

log = logging.getLogger("edgedistill.runtime")

#: Encoding goes on for so long after somebody last asked.
WANTED_S = 3.0
#: One wait for a frame, so that a close is seen in time.
WAIT_S = 0.5
JPEG_QUALITY = 80
#: Nice value of threads that only draw.
NICE = 10


class Frames(Protocol):
    """What is asked of a monitor."""

    def wait_newer(self, number: int, timeout_s: float, *, source: int | None = None) -> Seen | None: ...


class Picture(NamedTuple):
    """A picture (JPEG) and the number of its result."""

    number: int
    jpeg: bytes


class Preview:
    """The pictures of one source; made and asked in the server's event loop, whose thread alone calls `newer` and `close`."""

    def __init__(self, frames: Frames, source: int, options: ServeOptions) -> None:
        self._frames, self._source, self._options = frames, source, options
        self._loop = asyncio.get_running_loop()
        self._newest: Picture | None = None
        self._published = asyncio.Event()
        self._wanted_until_s = 0.0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"preview {source}", daemon=True)
        self._thread.start()

    async def newer(self, number: int, timeout_s: float) -> Picture | None:
        """Return the newest picture once there is one of a result after `number`; None if none came within the time."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._newest is None or self._newest.number <= number:
                    self._want()
                    await self._published.wait()
        except TimeoutError:
            return None
        self._want()
        return self._newest

    def close(self) -> None:
        """Let the thread end; it does not outlast one wait for a frame."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _want(self) -> None:
        with self._changed:
            self._wanted_until_s = time.monotonic() + WANTED_S
            self._changed.notify_all()

    def _publish(self, picture: Picture | None) -> None:
        self._newest = picture
        self._published.set()
        self._published = asyncio.Event()

    def _run(self) -> None:
        leave_signals_to_main()
        yield_to_others()
        number = 0
        while not self._closing:
            if not self._wanted():
                self._hand_over(None)  # nothing is kept while nobody looks
                number = 0
                self._sleep_until_wanted()
                continue
            began_s = time.monotonic()
            seen = self._frames.wait_newer(number, WAIT_S, source=self._source)
            if seen is None:
                continue
            number = seen.number
            jpeg = self._encoded(seen)
            if jpeg is not None:
                self._hand_over(Picture(number, jpeg))
            with self._changed:
                self._changed.wait_for(lambda: self._closing, max(0.0, began_s + 1 / self._options.preview_fps - time.monotonic()))

    def _wanted(self) -> bool:
        return time.monotonic() < self._wanted_until_s

    def _sleep_until_wanted(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._wanted())

    def _encoded(self, seen: Seen) -> bytes | None:
        try:
            return encode(seen, self._options.preview_width)
        except cv2.error as error:
            log.debug("no picture of frame %d: %s", seen.frame.id, error)
            return None

    def _hand_over(self, picture: Picture | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._publish, picture)
        except RuntimeError:  # the server has ended meanwhile
            self.close()


def encode(seen: Seen, width: int) -> bytes:
    """Return a frame with its answer written on it as JPEG, at most `width` pixels wide."""
    frame_bgr: np.ndarray = seen.frame.frame_bgr
    if frame_bgr.shape[1] > width:
        height = max(1, round(frame_bgr.shape[0] * width / frame_bgr.shape[1]))
        frame_bgr = cv2.resize(frame_bgr, (width, height), interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", annotate(frame_bgr, seen.result), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return jpeg.tobytes()


def yield_to_others() -> None:
    """Give this thread a low priority; elsewhere than on Linux that would be the whole process."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
