"""Several sources, one interpreter: whose turn it is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Self

from edgedistill.errors import SourceError
from edgedistill.runtime.frames import Frame, Source

log = logging.getLogger("edgedistill.runtime")


class Turns:
    """Reads sources round robin, beginning after the one that was served last; so a fast one never starves a slow one.

    Args:
        sources: at least one.
        changed: the condition that all of them were made with.
    """

    def __init__(self, sources: Sequence[Source], changed: threading.Condition) -> None:
        self.sources = tuple(sources)
        self._changed = changed
        self._next = 0
        self._failed: set[int] = set()

    @property
    def name(self) -> str:
        """The names of all."""
        return ", ".join(source.name for source in self.sources)

    @property
    def dropped(self) -> int:
        """Frames of all sources that were there and lost."""
        return sum(source.dropped for source in self.sources)

    @property
    def ended(self) -> bool:
        """Whether no source has a frame any more."""
        return all(place in self._failed or source.ended for place, source in enumerate(self.sources))

    def read(self, timeout_s: float) -> Frame | None:
        """Return the next frame; None if none came within the time, or if all sources have ended (then `ended` is true)."""
        until_s = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for turn in range(len(self.sources)):
                    place = (self._next + turn) % len(self.sources)
                    frame = self._take(place)
                    if frame is not None:
                        self._next = place + 1
                        return frame
                left_s = until_s - time.monotonic()
                if self.ended or left_s <= 0:
                    return None
                self._changed.wait(left_s)

    def _take(self, place: int) -> Frame | None:
        if place in self._failed:
            return None
        try:
            return self.sources[place].take()
        except SourceError as error:
            if len(self._failed) + 1 == len(self.sources):
                raise
            self._failed.add(place)  # the others go on
            log.warning("%s", error)
            return None

    def close(self) -> None:
        """Close all sources at the same time: a blocked one takes nothing from the others."""
        closing = [threading.Thread(target=source.close, name=f"close {source.name}", daemon=True) for source in self.sources]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
