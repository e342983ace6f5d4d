"""Live sources: the newest frame wins, and what stalls or dies is opened again in the background, for ever.

A blocked native read is never waited for: its thread is given up, delivers nothing any more, and ends when the driver lets it go.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from edgedistill.errors import SourceError
from edgedistill.runtime.address import tellable
from edgedistill.runtime.ahead import Ahead
from edgedistill.runtime.frames import (
    CAPTURE_THREAD,
    CLOSE_WAIT_S,
    OUTAGE,
    UNDECODABLE,
    Capture,
    Frame,
    Opening,
    SlotSource,
    Traits,
    leave_signals_to_main,
)
from edgedistill.runtime.opencv import one_thread
from edgedistill.runtime.pace import Timing
from edgedistill.runtime.quality import HOUR_S, quality
from edgedistill.runtime.reader import Reader
from edgedistill.runtime.status import SourceStatus, State

log = logging.getLogger("edgedistill.runtime")

#: While so many given-up threads are blocked, nothing is opened any more: each holds a device and memory.
MOST_STUCK = 2
#: How often it is looked whether one of them came free.
LOOK_S = 0.5
#: Troubles of the last hour are remembered up to this many; more are not told apart.
KEEP_TROUBLES = 256


DEFAULT = Timing()


class LiveSource(SlotSource):
    """A `Source` over a camera or stream: one thread reads, another one watches it and opens anew.

    Args:
        opening: opens the capture, again and again.
        first: the capture, if it is open already.
        name: what messages call it until it is open, without credentials.
        there: tells cheaply whether it may be there again, see `presence`.
    """

    def __init__(
        self,
        opening: Opening,
        *,
        first: Capture | None = None,
        timing: Timing = DEFAULT,
        changed: threading.Condition | None = None,
        index: int = 0,
        name: str = "camera",
        there: Callable[[], bool] | None = None,
        ahead: Ahead | None = None,
    ) -> None:
        one_thread()
        traits = first.traits if first is not None else Traits(name, live=True, ends=False)
        super().__init__(traits, changed=changed, index=index, ahead=ahead)
        self._opening, self._first, self._timing = opening, first, timing
        self._there, self._was_there = there, True
        self._news, self._closed = threading.Event(), threading.Event()
        self._state: State = "opening"
        self._was_open = False
        self._reader = Reader(first)
        self._stuck: list[Reader] = []
        self._troubles: dict[str, deque[float]] = {kind: deque(maxlen=KEEP_TROUBLES) for kind in ("reconnect", "stall")}
        self._silent_since_s = time.monotonic()
        self._flowing_since_s: float | None = None
        self._watcher: threading.Thread | None = None

    def status(self) -> SourceStatus:
        now_s = time.monotonic()
        with self._changed:
            last_s, fps, whole = self._pace.last_s, self._pace.fps(now_s), self._pace.whole_share(now_s)
            recent = {kind: sum(now_s - at_s <= HOUR_S for at_s in times) for kind, times in self._troubles.items()}
            silent_s = 0.0 if self._state == "running" else now_s - self._silent_since_s
            # Without a nominal rate it is held to the one it keeps: what cannot be decoded is missing in either case.
            good_fps = None if fps is None else fps * whole
            word = quality(good_fps, self.fps or fps, reconnects=recent["reconnect"], stalls=recent["stall"], silent_s=silent_s)
            return SourceStatus(
                self.name,
                source=self.index,
                state=self._state,
                quality=word,
                fps=fps,
                expected_fps=self.fps,
                captured=self.counts.captured,
                dropped=self.counts.dropped.copy(),
                reconnects=self.counts.reconnects,
                stalls=self.counts.stalls,
                age_s=now_s - last_s if last_s is not None else None,
                patience_s=self._stall_after_s(),
            )

    def close(self) -> None:
        with self._changed:
            self._closing = self._finished = True
            self._state = "ended"
            self._changed.notify_all()
        self._closed.set()
        self._news.set()
        until_s = time.monotonic() + CLOSE_WAIT_S
        if self._watcher is None and self._first is not None:
            self._first.release()
        elif self._watcher is not None:
            self._watcher.join(CLOSE_WAIT_S)
        self._reader.give_up()
        if self._reader.thread is not None:
            self._reader.thread.join(max(0.0, until_s - time.monotonic()))
        self.stuck = any(reader.thread is not None and not reader.over for reader in (self._reader, *self._stuck))

    def _start(self) -> None:
        if self._watcher is None and not self._closing:
            self._first = None  # it is the reader's now
            self._watcher = threading.Thread(target=self._watch, name=f"watch {self.name}", daemon=True)
            self._watcher.start()

    def _watch(self) -> None:
        """Read, and whenever that ends or stalls, pause and begin anew; in the watcher's thread."""
        leave_signals_to_main()
        pause_s, eager_until_s = self._timing.first_retry_s, 0.0
        while not self._closed.is_set():
            self._reader.start(self._read, f"{CAPTURE_THREAD}{self.name}")
            trouble = self._wait_for_trouble()
            if self._closed.is_set():
                return
            if self._flowing_since_s is not None and time.monotonic() - self._flowing_since_s >= self._timing.healthy_s:
                pause_s = self._timing.first_retry_s
            self._note(trouble)
            if self._pause(pause_s * random.uniform(1 - self._timing.jitter, 1 + self._timing.jitter)):
                pause_s, eager_until_s = self._timing.first_retry_s, time.monotonic() + self._timing.eager_s
            self._wait_for_stuck()
            if time.monotonic() > max(eager_until_s, self._silent_since_s + self._timing.eager_s):
                pause_s = min(2 * pause_s, self._timing.longest_retry_s)
            with self._changed:
                self._reader = Reader(None)

    def _pause(self, pause_s: float) -> bool:
        """Wait so long, or until the source is there that was not; return whether it was that."""
        until_s = time.monotonic() + pause_s
        while (left_s := until_s - time.monotonic()) > 0 and not self._closed.wait(min(left_s, self._timing.first_retry_s)):
            if self._there is None or left_s <= self._timing.first_retry_s:
                continue
            was_there, self._was_there = self._was_there, self._there()
            if self._was_there and not was_there:
                return True
        return False

    def _wait_for_trouble(self) -> str:
        """Return what went wrong once something did."""
        reader, began_s = self._reader, time.monotonic()
        while not self._closed.is_set():
            self._news.clear()
            with self._changed:
                due_s, trouble = self._due(reader, began_s)
            left_s = due_s - time.monotonic()
            if reader.over:
                return reader.error or "it stopped delivering"
            if left_s <= 0:
                with self._changed:
                    self.counts.stalls += 1
                    self._troubles["stall"].append(time.monotonic())
                return trouble
            if not self._closed.is_set():
                self._news.wait(left_s)
        return ""

    def _due(self, reader: Reader, began_s: float) -> tuple[float, str]:
        """Return when a reader counts as stalled if nothing comes any more, and how that is told; the lock is held."""
        if reader.opened_s is None:
            return began_s + self._timing.open_s, f"it did not open within {self._timing.open_s:g} s"
        limit_s = self._stall_after_s()
        broken_limit_s = max(limit_s, self._timing.open_s)
        silent = max(reader.opened_s, self._pace.last_s or 0.0) + limit_s, f"no frame for {limit_s:.1f} s"
        broken = max(reader.opened_s, reader.whole_s) + broken_limit_s, f"no frame that can be decoded for {broken_limit_s:.1f} s"
        return min(silent, broken)

    def _stall_after_s(self) -> float:
        interval_s = self._pace.interval_s() or (1 / self.fps if self.fps else 0.0)
        return max(self._timing.stall_s, self._timing.stall_intervals * interval_s)

    def _note(self, trouble: str) -> None:
        """Give the reader up, and say aloud that an outage began."""
        with self._changed:
            begins = self._state != "reconnecting"
            self._state = "reconnecting"
            self._flowing_since_s = None
            if begins:
                self._silent_since_s = self._pace.last_s or self._silent_since_s
            self._reader.give_up()
            self._stuck = [reader for reader in (*self._stuck, self._reader) if not reader.over]
        if begins:
            what = trouble if trouble.startswith(self.name) else f"{self.name}: {trouble}"  # an error tells the name itself
            log.warning("%s; trying again until it is back", what)

    def _wait_for_stuck(self) -> None:
        """Wait until few enough given-up threads are left."""
        told = False
        while not self._closed.is_set():
            self._stuck = [reader for reader in self._stuck if not reader.over]
            self.stuck = bool(self._stuck)
            if len(self._stuck) < MOST_STUCK:
                return
            if not told:
                log.warning("%s: %d reads are blocked in its driver; it is opened again once one of them returns", self.name, MOST_STUCK)
                told = True
            self._closed.wait(LOOK_S)

    def _read(self, reader: Reader) -> None:
        """Open, read and release; in the reader's thread."""
        leave_signals_to_main()
        try:
            if reader.capture is None:
                reader.capture = self._opening()
            self._opened(reader, reader.capture.traits)
            while not reader.given_up and not self._closing and reader.capture.grab():
                self._arrived(reader, *reader.capture.retrieve())
        except SourceError as error:
            reader.error = str(error)
        except Exception as error:  # whatever a driver raises must be answered by opening again; its text may hold an address
            reader.error = f"it failed while capturing ({type(error).__name__})"
        finally:
            if reader.capture is not None:
                with suppress(Exception):
                    reader.capture.release()
            reader.over = True
            self._news.set()

    def _opened(self, reader: Reader, traits: Traits) -> None:
        with self._changed:
            reader.opened_s = time.monotonic()
            if reader.given_up:
                return
            if self._was_open:  # an attempt that fails is part of the same outage
                self.counts.reconnects += 1
                self._troubles["reconnect"].append(reader.opened_s)
            self._was_open = True
            self.name, self.fps = tellable(traits.name), traits.fps
        self._news.set()  # from now on frames are waited for, not the opening

    def _arrived(self, reader: Reader, decoded: bool, frame_bgr: np.ndarray | None) -> None:
        """Put a frame into the slot, if its reader was not given up meanwhile."""
        now_s, time_s = time.monotonic(), time.time()
        if not decoded:
            frame_bgr = None
        prepared = self._prepared(frame_bgr)
        with self._changed:
            if reader.given_up or self._closing:
                self._give_back(prepared)
                return
            number = self.counts.captured
            self.counts.captured += 1
            if self._state != "running":
                self._back(now_s)
            self._pace.add(now_s, whole=frame_bgr is not None)
            if frame_bgr is None:
                self.counts.drop(UNDECODABLE)
                return
            reader.whole_s = now_s
            self._fill(Frame(number, frame_bgr, now_s, time_s, 0.0, self.index, prepared))

    def _back(self, now_s: float) -> None:
        """Frames flow again: count those of the outage as far as the rate tells; the lock is held."""
        last_s = self._pace.last_s
        interval_s = self._pace.interval_s()
        if last_s is not None and interval_s:
            self.counts.drop(OUTAGE, max(0, round((now_s - last_s) / interval_s) - 1))
        if self._state == "reconnecting":
            log.warning("%s: %s after %.1f s", self.name, "there" if last_s is None else "back", now_s - self._silent_since_s)
        self._pace.clear()
        self._state, self._flowing_since_s = "running", now_s
