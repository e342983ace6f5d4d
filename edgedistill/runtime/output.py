"""What takes results: a file, a page, a broker. Each lives behind a thread of its own, so that none of them can hold the loop."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Protocol

from edgedistill.errors import EdgeDistillError
from edgedistill.runtime.camera import Result
from edgedistill.runtime.frames import Frame, leave_signals_to_main
from edgedistill.runtime.status import OutputStatus

log = logging.getLogger("edgedistill.runtime")

#: How the names of output threads begin.
OUTPUT_THREAD = "output "
#: After a failure the next result is tried after the first of these pauses, which doubles with each further failure up to the second.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
#: An output that works for so long after its last failure is well again; the next failure begins a new trouble, which is told anew.
WELL_S = 10.0
#: How much less a background thread is worth to the scheduler than the loop.
NICENESS = 5
#: The part of the time to close in which queued results are still written; the rest is for the output to finish its files.
DRAIN_SHARE = 0.7
#: How often a loop that waits for a lossless output looks whether it is to end.
LOOK_S = 0.1


class Output(Protocol):
    """Takes one result after the other, in the thread of its `Background`.

    The frame is shared with everybody else: it may be read, never written to.
    """

    name: str

    def write(self, frame: Frame, result: Result) -> None:
        """Take a result; may block, and may raise OSError or OutputError, which are counted and end nothing.

        The first failure of a trouble and its end are logged, by kind; an OutputError that is `told_elsewhere` is not.
        """

    def close(self) -> None:
        """Finish what was begun and release what is held."""


class Origin(Protocol):
    """What an output knows of a source; every `Source` is one.

    `fps` of a source that is not live is its true rate, whatever pace its frames are read at.
    """

    @property
    def name(self) -> str: ...

    @property
    def live(self) -> bool: ...

    @property
    def fps(self) -> float | None: ...


def step_back() -> None:
    """Let the loop go before this thread, where the system knows priorities of threads; for whatever works beside the loop."""
    if sys.platform.startswith("linux"):
        with suppress(OSError):  # a sandbox may forbid it, and it is only a courtesy
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


class Background:
    """An output in a thread of its own, behind a queue.

    `broken` says that who read it has gone for good; `stuck` that a blocked write was left behind at `close`, so that the
    process must be ended hard.

    Args:
        depth: results that may wait. When there are more, the oldest is dropped and counted.
        lossless: `write` waits for room instead, for sources of which every frame counts; not while the output fails.
        stop: once set, nobody waits for room any more.
    """

    def __init__(self, output: Output, *, depth: int = 4, lossless: bool = False, stop: threading.Event | None = None) -> None:
        self.name = output.name
        self.broken = self.stuck = False
        self._output, self._depth, self._lossless = output, depth, lossless
        self._stop = stop or threading.Event()
        self._queue: deque[tuple[Frame, Result]] = deque()
        self._written = self._dropped = self._failed = 0
        self._failures_in_a_row = self._failed_before = 0
        self._failed_s = 0.0
        self._error: str | None = None
        self._told: set[str] = set()
        self._drain_until_s: float | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"{OUTPUT_THREAD}{self.name}", daemon=True)
        self._thread.start()

    def write(self, frame: Frame, result: Result) -> None:
        """Queue a result; never blocks, unless lossless."""
        with self._changed:
            while self._lossless and not self._may_queue() and not self._stop.is_set():
                self._changed.wait(LOOK_S)
            if self.broken or self._closing:
                self._dropped += 1
                return
            if len(self._queue) >= self._depth:
                self._queue.popleft()
                self._dropped += 1
            self._queue.append((frame, result))
            self._changed.notify_all()

    def status(self) -> OutputStatus:
        """Return the counts and the last error."""
        with self._changed:
            return OutputStatus(self.name, self._written, self._dropped, self._failed, self._error)

    def close(self, within_s: float) -> None:
        """Write what is queued and close the output, then give up on whatever has not ended within the time."""
        with self._changed:
            self._drain_until_s = time.monotonic() + within_s * DRAIN_SHARE
            self._changed.notify_all()
        self._thread.join(within_s)
        self.stuck = self._thread.is_alive()
        if self.stuck:
            with self._changed:
                self._give_up_queue()
            log.warning("%s has not finished within %.1f s, and is left as it is", self.name, within_s)

    @property
    def _closing(self) -> bool:
        return self._drain_until_s is not None

    def _may_queue(self) -> bool:
        return len(self._queue) < self._depth or self.broken or self._closing or self._failures_in_a_row > 0

    def _run(self) -> None:
        leave_signals_to_main()
        step_back()
        while (waiting := self._next()) is not None:
            self._write(*waiting)
        try:
            self._output.close()
        except Exception as error:  # must not end in a traceback of a thread that nobody sees
            if not self.broken:
                self._count_failure(error)

    def _next(self) -> tuple[Frame, Result] | None:
        """Wait for a result; None once there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing or self.broken)
            if self.broken or (self._drain_until_s is not None and time.monotonic() > self._drain_until_s):
                self._give_up_queue()
            waiting = self._queue.popleft() if self._queue else None
            self._changed.notify_all()
        return waiting

    def _write(self, frame: Frame, result: Result) -> None:
        try:
            self._output.write(frame, result)
        except BrokenPipeError as error:
            with self._changed:
                self.broken, self._error = True, str(error)
                self._failed += 1
                self._changed.notify_all()
        except Exception as error:  # a bug in an output must not end the others, nor go unseen
            self._count_failure(error)
            self._pause()
        else:
            self._count_success()

    def _count_success(self) -> None:
        with self._changed:
            self._written += 1
            self._failures_in_a_row = 0
            failures = self._failed - self._failed_before
            if failures == 0 or time.monotonic() - self._failed_s < WELL_S:
                return
            self._failed_before = self._failed
            told = bool(self._told)
            self._told.clear()
        if told:
            log.warning("%s works again; failed until then: %d", self.name, failures)

    def _count_failure(self, error: Exception) -> None:
        kind = f"{type(error).__name__} {error.errno}" if isinstance(error, OSError) else type(error).__name__
        tell = not (isinstance(error, EdgeDistillError) and error.told_elsewhere)
        with self._changed:
            self._failed += 1
            self._failures_in_a_row += 1
            self._failed_s = time.monotonic()
            self._error = f"{error}" or kind
            first = tell and kind not in self._told
            if tell:
                self._told.add(kind)
            self._changed.notify_all()
        if first:
            log.warning("%s failed: %s; it is tried again, and further failures of this kind are only counted", self.name, self._error)

    def _pause(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing, pause_s(self._failures_in_a_row))

    def _give_up_queue(self) -> None:
        self._dropped += len(self._queue)
        self._queue.clear()


def pause_s(failures: int) -> float:
    """Return how long to wait after so many failures in a row, so that a full disk costs nothing."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 20))
