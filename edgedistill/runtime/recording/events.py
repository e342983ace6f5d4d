"""When an event begins and ends (hysteresis over a class's probability), and the frames from before it."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple


class Picture(NamedTuple):
    """A frame as JPEG with the probability of the class that counts.

    `at_s` is monotonic, or the place in the video where the source is a file; `time_s` since 1970.
    """

    at_s: float
    time_s: float
    size_hw: tuple[int, int]
    jpeg: bytes
    score: float = 0.0
    label: str = ""


class Hysteresis:
    """Whether an event is on: from `above` on, until nothing was at or above `below` for `hold_s`."""

    def __init__(self, above: float, below: float, hold_s: float) -> None:
        self.on = False
        self._above, self._below, self._hold_s = above, below, hold_s
        self._last_s = 0.0

    def add(self, score: float, at_s: float) -> bool:
        """Take the next probability and return whether the event is on."""
        if score >= (self._below if self.on else self._above):
            self.on, self._last_s = True, at_s
        elif self.on and at_s - self._last_s >= self._hold_s:
            self.on = False
        return self.on


class PreRoll:
    """The newest pictures, of so many seconds and bytes at most."""

    def __init__(self, seconds: float, most_bytes: int) -> None:
        self._seconds, self._most_bytes = seconds, most_bytes
        self._pictures: deque[Picture] = deque()
        self.bytes = 0

    def add(self, picture: Picture) -> None:
        """Keep a picture, and let go of what is too old or too much."""
        self._pictures.append(picture)
        self.bytes += len(picture.jpeg)
        while self._pictures and (picture.at_s - self._pictures[0].at_s > self._seconds or self.bytes > self._most_bytes):
            self.bytes -= len(self._pictures.popleft().jpeg)

    def taken(self) -> list[Picture]:
        """Return all pictures, oldest first, and keep none."""
        found, self._pictures, self.bytes = list(self._pictures), deque(), 0
        return found
