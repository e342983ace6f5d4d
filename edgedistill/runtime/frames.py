"""What captures and sources of frames are, and what all sources share: threads that capture, and one slot to take from.

Sources that end are in `ending`, those that are live and come back after an outage in `live`. The kinds of captures (cameras, files,
test pattern) have modules of their own; `sources` chooses among them.
"""

from __future__ import annotations

import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Protocol, Self

import numpy as np

from edgedistill.errors import SourceError
from edgedistill.runtime.address import tellable
from edgedistill.runtime.ahead import Ahead, Prepared
from edgedistill.runtime.pace import Pace
from edgedistill.runtime.status import SourceStatus

#: How long `close` waits for a capture that is blocked in a driver or on the network.
CLOSE_WAIT_S = 0.8
#: How the names of capture threads begin.
CAPTURE_THREAD = "capture "
#: Causes of lost frames.
NEWER, UNDECODABLE, OUTAGE = "newer frame", "undecodable", "outage"


class Frame(NamedTuple):
    """A frame with its number, counted over all captured frames, dropped ones included, and over all reconnects.

    `frame_bgr` is (H, W, 3) uint8 and belongs to the reader. `captured_s` (monotonic) and `time_s` (seconds since 1970) are
    when it arrived, for files when reading it began. `capture_ms` is what lies between that and the frame being in the
    reader's hands: decoding, and for live sources also the wait in the slot; waiting for the camera to expose is not in it.
    `source` is the place of its source among those of the run, from 0. `prepared` is what the network takes of it,
    where that was made ahead (not counted in `capture_ms`); it lasts until the next frame of that source is read.
    """

    id: int
    frame_bgr: np.ndarray
    captured_s: float
    time_s: float
    capture_ms: float
    source: int = 0
    prepared: Prepared | None = None


class Traits(NamedTuple):
    """What a capture is like.

    Args:
        name: how messages call it, without credentials.
        live: newest frame wins and drops are counted; otherwise every frame waits for its reader.
        ends: whether running out of frames is the normal end; for a camera it is an outage.
        fps: nominal rate, if known.
        frames: how many frames there should be, if known.
        negotiated: what a camera gives where that is to be told, such as "640x480 MJPG 30 fps (asked 60)".
    """

    name: str
    live: bool = False
    ends: bool = True
    fps: float | None = None
    frames: int | None = None
    negotiated: str = ""


class Capture(Protocol):
    """An open device, stream or file. One thread reads it; only `interrupt` may be called from another one."""

    @property
    def traits(self) -> Traits:
        """What it is like, known once it is open."""

    def grab(self) -> bool:
        """Take the next frame without decoding it; False when there are no more. May block."""

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        """Decode the grabbed frame to (H, W, 3) uint8 BGR; False if that fails."""

    def interrupt(self) -> None:
        """Make a blocked `grab` of another thread return soon; nothing where the driver offers no way. Never blocks."""

    def release(self) -> None:
        """Give the device back."""


#: Opens a capture, again and again; raises SourceError, without credentials in its text, if it does not open.
Opening = Callable[[], Capture]


class Counts:
    """What a source counts, owned by its threads.

    Attributes:
        captured: frames that arrived, whatever became of them.
        dropped: frames that were lost, by cause; those of an outage as far as the rate tells how many there would have been.
        reconnects: how often it was opened again.
        stalls: how often it stayed silent for longer than it may.
    """

    def __init__(self) -> None:
        self.captured = self.reconnects = self.stalls = 0
        self.dropped: dict[str, int] = {}

    def drop(self, cause: str, count: int = 1) -> None:
        """Count lost frames."""
        self.dropped[cause] = self.dropped.get(cause, 0) + count


class Source(Protocol):
    """Frames, one after the other; a context manager.

    `live` says whether frames come at their own pace, `fps` is the nominal rate. `index` is its place among the sources of a
    run. `dropped` counts frames that were there and lost, `skipped` those of them that could not be decoded.
    `stuck` says that blocked captures were left behind, so that the process must be ended hard.
    """

    name: str
    live: bool
    fps: float | None
    index: int
    counts: Counts

    @property
    def dropped(self) -> int:
        """How many frames were lost because a newer one replaced them, or in an outage."""

    @property
    def skipped(self) -> int:
        """How many could not be decoded."""

    @property
    def stuck(self) -> bool:
        """Whether a thread is blocked in a capture that was given up."""

    @property
    def ended(self) -> bool:
        """Whether there are no more frames, all of them having been read."""

    def read(self, timeout_s: float) -> Frame | None:
        """Return the next frame; None if none came within the time, or if there are no more (then `ended` is true)."""

    def take(self) -> Frame | None:
        """Return a frame if there is one now."""

    def status(self) -> SourceStatus:
        """Return how it is doing."""

    def close(self) -> None:
        """Stop capturing and release the device."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


def leave_signals_to_main() -> None:
    """Keep SIGINT and SIGTERM from this thread: one that interrupts a driver's call here would look like a broken camera."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})


class SlotSource(ABC):
    """A `Source` with one slot, that threads fill and the reader empties; how it is filled is its subclasses' business.

    Args:
        traits: what is known of it.
        changed: notified at every change; sources that share one can be waited for together (`turns`).
        index: its place among the sources of a run.
        ahead: prepares frames as they come; nothing does by default.
    """

    def __init__(self, traits: Traits, *, changed: threading.Condition | None = None, index: int = 0, ahead: Ahead | None = None) -> None:
        self.name, self.live, self.fps, self.index = tellable(traits.name), traits.live, traits.fps, index
        self.counts = Counts()
        self.stuck = False
        self._changed = changed or threading.Condition()
        self._pace = Pace()
        self._ahead = ahead
        self._slot: Frame | None = None
        self._in_use: Prepared | None = None  # what the reader works on
        self._error: SourceError | None = None
        self._closing = self._finished = False

    @property
    def dropped(self) -> int:
        return sum(count for cause, count in self.counts.dropped.copy().items() if cause != UNDECODABLE)

    @property
    def skipped(self) -> int:
        return self.counts.dropped.get(UNDECODABLE, 0)

    @property
    def ended(self) -> bool:
        with self._changed:
            return self._finished and self._slot is None

    def read(self, timeout_s: float) -> Frame | None:
        self._start()
        with self._changed:
            self._changed.wait_for(lambda: self._slot is not None or self._finished, timeout_s)
            return self._emptied()

    def take(self) -> Frame | None:
        self._start()
        with self._changed:
            return self._emptied()

    def _emptied(self) -> Frame | None:
        frame, self._slot = self._slot, None
        if frame is None:
            if self._error is not None:
                raise self._error
            return None
        self._give_back(self._in_use)
        self._in_use = frame.prepared
        self._changed.notify_all()
        if not self.live:
            return frame
        prepared_ms = frame.prepared.took_ms if frame.prepared is not None else 0.0
        return frame._replace(capture_ms=(time.monotonic() - frame.captured_s) * 1e3 - prepared_ms)

    def _fill(self, frame: Frame) -> None:
        """Put a frame into the slot, in place of one that nobody took; the lock is held."""
        if self._slot is not None:
            self.counts.drop(NEWER)
            self._give_back(self._slot.prepared)
        self._slot = frame
        self._changed.notify_all()

    def _prepared(self, frame_bgr: np.ndarray | None) -> Prepared | None:
        """Prepare a frame if that is wanted here; takes its time, so the lock must not be held."""
        return self._ahead(frame_bgr) if self._ahead is not None and frame_bgr is not None else None

    def _give_back(self, prepared: Prepared | None) -> None:
        if self._ahead is not None and prepared is not None:
            self._ahead.give_back(prepared)

    @abstractmethod
    def _start(self) -> None:
        """Start capturing, unless it was before: at the first read, so that what comes before it, as loading a model, drops no frame."""

    @abstractmethod
    def close(self) -> None:
        """Stop capturing and release the device."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
