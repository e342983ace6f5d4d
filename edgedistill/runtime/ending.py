"""Sources that end, such as files and pipes: one thread captures, every frame waits for its reader, and nothing is opened again.

Where a source of this kind is live all the same (the test pattern at a rate), the newest frame wins.
"""

from __future__ import annotations

import logging
import threading
import time

from edgedistill.errors import SourceError
from edgedistill.runtime.ahead import Ahead
from edgedistill.runtime.frames import CAPTURE_THREAD, CLOSE_WAIT_S, UNDECODABLE, Capture, Frame, SlotSource, leave_signals_to_main
from edgedistill.runtime.pace import STALL_INTERVALS, STALL_S
from edgedistill.runtime.quality import quality
from edgedistill.runtime.status import SourceStatus, State

log = logging.getLogger("edgedistill.runtime")


class CaptureSource(SlotSource):
    """A `Source` over one capture that ends, such as a file: every frame waits for its reader.

    Only the thread started here touches the capture, until the end.
    """

    def __init__(self, capture: Capture, *, changed: threading.Condition | None = None, index: int = 0, ahead: Ahead | None = None) -> None:
        super().__init__(capture.traits, changed=changed, index=index, ahead=ahead)
        self._traits = capture.traits
        self._capture = capture
        self._thread: threading.Thread | None = None

    def status(self) -> SourceStatus:
        now_s = time.monotonic()
        with self._changed:
            state: State = "opening" if self._thread is None else "ended" if self._finished else "running"
            last_s = self._pace.last_s
            whole = max(0.0, 1 - self.skipped / max(1, self.counts.captured))
            return SourceStatus(
                self.name,
                source=self.index,
                state=state,
                quality=quality(whole, 1.0, reconnects=0, stalls=0),  # it is as fast as its reader
                fps=self._pace.fps(now_s),
                expected_fps=self.fps,
                captured=self.counts.captured,
                dropped=self.counts.dropped.copy(),
                reconnects=0,
                stalls=0,
                age_s=now_s - last_s if last_s is not None else None,
                patience_s=max(STALL_S, STALL_INTERVALS / self.fps) if self.fps else None,
            )

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._start()  # one that starts only now releases the device and ends
        assert self._thread is not None
        self._capture.interrupt()
        self._thread.join(CLOSE_WAIT_S)
        self.stuck = self._thread.is_alive()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"{CAPTURE_THREAD}{self.name}", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        leave_signals_to_main()
        try:
            self._capture_all()
            self._error = None if self._closing else self._how_it_ended()
        except SourceError as error:
            self._error = error
        except Exception as error:  # whatever a driver raises must reach the reader, not die with the thread
            self._error = SourceError(f"{self.name} failed while capturing: {error}; check the device and its cable")
        finally:
            self._capture.release()
            with self._changed:
                self._finished = True
                self._changed.notify_all()

    def _capture_all(self) -> None:
        while not self._closing:
            began_s, began_time_s = time.monotonic(), time.time()
            if not self._capture.grab():
                return
            if self.live:
                began_s, began_time_s = time.monotonic(), time.time()
            decoded, frame_bgr = self._capture.retrieve()
            took_ms = (time.monotonic() - began_s) * 1e3
            prepared = self._prepared(frame_bgr if decoded else None)
            with self._changed:
                number = self.counts.captured
                self.counts.captured += 1
                self._pace.add(time.monotonic())
                if not decoded or frame_bgr is None:
                    self.counts.drop(UNDECODABLE)
                    continue
                self._deliver(Frame(number, frame_bgr, began_s, began_time_s, took_ms, self.index, prepared))

    def _deliver(self, frame: Frame) -> None:
        """Put a frame into the slot; the lock is held."""
        if not self.live:
            self._changed.wait_for(lambda: self._slot is None or self._closing)
        if self._slot is None or self.live:
            self._fill(frame)

    def _how_it_ended(self) -> SourceError | None:
        """Return what to raise after the last frame; count and tell frames that a file lacks."""
        delivered = self.counts.captured - self.skipped
        if not self._traits.ends:
            return SourceError(
                f"{self.name} stopped delivering after {delivered} frames; check that it is connected and switched on, then start again"
            )
        if delivered == 0:
            return SourceError(
                f"{self.name} has no frame that can be decoded; check that the file is whole, and of a format that OpenCV reads"
            )
        expected = self._traits.frames
        if expected is not None and expected > self.counts.captured:
            self.counts.drop(UNDECODABLE, expected - self.counts.captured)
        if self.skipped:
            log.warning(
                "%s: %d of %d frames could not be read: it is cut short or damaged", self.name, self.skipped, delivered + self.skipped
            )
        return None
