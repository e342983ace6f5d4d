"""The `test://pattern` source: moving coloured shapes, the same for the same frame number, to try a bundle without a camera."""

from __future__ import annotations

import threading
import time
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

import cv2
import msgspec
import numpy as np

from edgedistill.errors import SourceError
from edgedistill.runtime.address import redact
from edgedistill.runtime.frames import Traits
from edgedistill.validation import to_struct

Side = Annotated[int, msgspec.Meta(ge=8, le=8192)]


class Pattern(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the pattern; without `fps` (0) frames come as fast as they are taken, and none is dropped."""

    width: Side = 640
    height: Side = 480
    fps: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 30.0
    frames: Annotated[int, msgspec.Meta(ge=1, le=10**12)] | None = None


def open_pattern(text: str) -> PatternCapture:
    """Open `test://pattern?width=640&height=480&fps=30&frames=100`; every option may be left out."""
    options = parse_pattern(text)
    return PatternCapture(options, text)


def parse_pattern(text: str) -> Pattern:
    """Return the options in the text of a test:// source."""
    try:
        parts = urlsplit(text)
        given = {key: _number(value) for key, value in parse_qsl(parts.query, keep_blank_values=True)}
        options = to_struct(given, Pattern)
    except ValueError as error:
        raise SourceError(f"{redact(text)}: {error}; write for example test://pattern?width=640&height=480&fps=30&frames=100") from error
    if parts.netloc + parts.path not in ("", "pattern"):
        raise SourceError(f"{redact(text)}: there is one test source, test://pattern; options follow a question mark")
    return options


def _number(text: str) -> object:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


class PatternCapture:
    """A `Capture` that draws its frames, one every 1/fps seconds."""

    def __init__(self, options: Pattern, name: str = "test://pattern") -> None:
        self.traits = Traits(name, live=options.fps > 0, fps=options.fps or None, frames=options.frames)
        self.options = options
        self._next = 0
        self._interrupted = threading.Event()
        self._start_s: float | None = None

    def grab(self) -> bool:
        self._start_s = self._start_s or time.monotonic()
        if self._next == self.options.frames:
            return False
        if self.options.fps and self._interrupted.wait(max(0.0, self._start_s + self._next / self.options.fps - time.monotonic())):
            return False
        self._next += 1
        return True

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, draw_pattern(self._next - 1, height=self.options.height, width=self.options.width)

    def interrupt(self) -> None:
        self._interrupted.set()

    def release(self) -> None:
        """Nothing to give back."""


def draw_pattern(number: int, *, height: int = 480, width: int = 640) -> np.ndarray:
    """Return frame `number` of the pattern, (height, width, 3) uint8 BGR: a disc, a square and a triangle that move."""
    frame_bgr = np.full((height, width, 3), 96, np.uint8)
    side = max(2, min(height, width) // 4)

    def place(phase: float) -> tuple[int, int]:
        x = (np.sin(number / 23 + phase) + 1) / 2 * (width - side)
        y = (np.cos(number / 31 + 2 * phase) + 1) / 2 * (height - side)
        return int(x), int(y)

    x, y = place(0.0)
    cv2.circle(frame_bgr, (x + side // 2, y + side // 2), side // 2, (40, 40, 220), -1)
    x, y = place(2.0)
    cv2.rectangle(frame_bgr, (x, y), (x + side, y + side), (60, 200, 60), -1)
    x, y = place(4.0)
    corners = np.array([(x + side // 2, y), (x, y + side), (x + side, y + side)], np.int32)
    cv2.fillPoly(frame_bgr, [corners], (220, 120, 40))
    return frame_bgr
