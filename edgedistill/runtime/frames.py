"""What a source of frames is, and the one implementation: a thread that captures, and one slot to take the frame from.

The kinds of captures (cameras, files, test pattern) are in `cameras`, `files` and `pattern`; `sources` chooses among them.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from typing import NamedTuple, Protocol, Self

import numpy as np

from edgedistill.errors import SourceError

log = logging.getLogger("edgedistill.runtime")

#: How long `close` waits for a capture that is blocked in a driver or on the network.
CLOSE_WAIT_S = 1.0
#: How the names of capture threads begin.
CAPTURE_THREAD = "capture "


class Frame(NamedTuple):
    """A frame with its number, counted over all captured frames, dropped ones included.

    `frame_bgr` is (H, W, 3) uint8 and belongs to the reader. `captured_s` (monotonic) and `time_s` (seconds since 1970) are
    when it arrived, for files when reading it began. `capture_ms` is what lies between that and the frame being in the
    reader's hands: decoding, and for live sources also the wait in the slot; waiting for the camera to expose is not in it.
    """

    id: int
    frame_bgr: np.ndarray
    captured_s: float
    time_s: float
    capture_ms: float


class Source(Protocol):
    """Frames, one after the other; a context manager.

    `live` says whether frames come at their own pace. `dropped` counts live frames that a newer one replaced, `skipped`
    what could not be decoded. `stuck` says that a blocked capture was left behind, so that the process must be ended hard.
    """

    name: str
    live: bool
    fps: float | None
    dropped: int
    skipped: int
    stuck: bool

    @property
    def ended(self) -> bool:
        """Whether there are no more frames, all of them having been read."""

    def read(self, timeout_s: float) -> Frame | None:
        """Return the next frame; None if none came within the time, or if there are no more (then `ended` is true)."""

    def close(self) -> None:
        """Stop capturing and release the device."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


class Capture(Protocol):
    """What `cv2.VideoCapture` offers, as far as it is used here; `grab` may block."""

    def grab(self) -> bool:
        """Take the next frame without decoding it; False when there are no more."""

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        """Decode the grabbed frame to (H, W, 3) uint8 BGR; False if that fails."""

    def release(self) -> None:
        """Give the device back."""


class Traits(NamedTuple):
    """What a source is like.

    Args:
        name: how messages call it, without credentials.
        live: newest frame wins and drops are counted; otherwise every frame waits for its reader.
        ends: whether running out of frames is the normal end; for a camera it is an error.
        fps: nominal rate, if known.
        frames: how many frames there should be, if known.
    """

    name: str
    live: bool = False
    ends: bool = True
    fps: float | None = None
    frames: int | None = None


def leave_signals_to_main() -> None:
    """Keep SIGINT and SIGTERM from this thread: one that interrupts a driver's call here would look like a broken camera."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})


class CaptureSource:
    """A `Source` over any `Capture`, which only the thread started here touches, until the end."""

    def __init__(self, capture: Capture, traits: Traits) -> None:
        self.name, self.live, self.fps = traits.name, traits.live, traits.fps
        self.dropped = self.skipped = 0
        self.stuck = False
        self._finished = False
        self._traits = traits
        self._capture = capture
        self._slot: Frame | None = None
        self._error: SourceError | None = None
        self._closing = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def ended(self) -> bool:
        with self._changed:
            return self._finished and self._slot is None

    def read(self, timeout_s: float) -> Frame | None:
        if self._thread is None:
            self._start()
        with self._changed:
            self._changed.wait_for(lambda: self._slot is not None or self._finished, timeout_s)
            frame, self._slot = self._slot, None
            self._changed.notify_all()
        if frame is None and self._error is not None:
            raise self._error
        if frame is not None and self.live:
            return frame._replace(capture_ms=(time.monotonic() - frame.captured_s) * 1e3)
        return frame

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        thread = self._thread or self._start()  # one that starts only now releases the device and ends
        thread.join(CLOSE_WAIT_S)
        self.stuck = thread.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _start(self) -> threading.Thread:
        """Start capturing at the first read, so that what comes before it, such as loading a model, drops no frame."""
        self._thread = threading.Thread(target=self._run, name=f"{CAPTURE_THREAD}{self.name}", daemon=True)
        self._thread.start()
        return self._thread

    def _run(self) -> None:
        leave_signals_to_main()
        try:
            delivered = self._capture_all()
            self._error = None if self._closing else self._how_it_ended(delivered)
        except SourceError as error:
            self._error = error
        except Exception as error:  # whatever a driver raises must reach the reader, not die with the thread
            self._error = SourceError(f"{self.name} failed while capturing: {error}; check the device and its cable")
        finally:
            self._capture.release()
            with self._changed:
                self._finished = True
                self._changed.notify_all()

    def _capture_all(self) -> int:
        """Capture until the end, and return how many frames were delivered."""
        number = 0
        while not self._closing:
            began_s, began_time_s = time.monotonic(), time.time()
            if not self._capture.grab():
                break
            if self.live:
                began_s, began_time_s = time.monotonic(), time.time()
            decoded, frame_bgr = self._capture.retrieve()
            if decoded and frame_bgr is not None:
                took_ms = (time.monotonic() - began_s) * 1e3
                self._deliver(Frame(number, frame_bgr, began_s, began_time_s, took_ms))
            else:
                self.skipped += 1
            number += 1
        return number - self.skipped

    def _deliver(self, frame: Frame) -> None:
        with self._changed:
            if not self.live:
                self._changed.wait_for(lambda: self._slot is None or self._closing)
            elif self._slot is not None:
                self.dropped += 1
            self._slot = frame
            self._changed.notify_all()

    def _how_it_ended(self, delivered: int) -> SourceError | None:
        """Return what to raise after the last frame; count and tell frames that a file lacks."""
        if not self._traits.ends:
            return SourceError(
                f"{self.name} stopped delivering after {delivered} frames; check that it is connected and switched on, then start again"
            )
        if delivered == 0:
            return SourceError(
                f"{self.name} has no frame that can be decoded; check that the file is whole, and of a format that OpenCV reads"
            )
        expected = self._traits.frames
        if expected is not None and expected - delivered - self.skipped > 0:
            self.skipped = expected - delivered
        if self.skipped:
            log.warning(
                "%s: %d of %d frames could not be read: it is cut short or damaged", self.name, self.skipped, delivered + self.skipped
            )
        return None
