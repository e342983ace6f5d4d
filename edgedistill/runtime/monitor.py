"""What a running loop knows of itself: the loop adds each result, everybody else asks for a snapshot or waits for a newer frame."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from edgedistill.latency import LatencyRecorder, Percentiles, percentiles
from edgedistill.runtime import process
from edgedistill.runtime.camera import Result
from edgedistill.runtime.frames import Frame, Source
from edgedistill.runtime.pace import Pace
from edgedistill.runtime.quality import worst
from edgedistill.runtime.status import Machine, OutputStatus, SourceStatus, Status

#: Latencies of so many newest results make the summary's percentiles; a camera may run for months.
KEEP_RESULTS = 10_000
#: And of so many those of a snapshot.
RECENT_RESULTS = 300


class Facts(NamedTuple):
    """What runs: names of the bundle, its file and the interpreter, and the interpreter's threads."""

    bundle: str
    file: str
    engine: str
    threads: int


class Seen(NamedTuple):
    """A frame with its result, and the number of that result, counted over all sources from 1."""

    number: int
    frame: Frame
    result: Result


class Summary(NamedTuple):
    """A whole run: how many frames, how fast, and what was lost on the way.

    Args:
        fps: results a second, from the first result to the last; None for a single one.
        stages_ms: percentiles over the newest `KEEP_RESULTS` results.
        first_result_s: from the start of the process to the first result; None without any.
    """

    frames: int
    fps: float | None
    stages_ms: dict[str, Percentiles]
    first_result_s: float | None
    sources: tuple[SourceStatus, ...]
    outputs: tuple[OutputStatus, ...]


def no_outputs() -> tuple[OutputStatus, ...]:
    """Return that there are no outputs."""
    return ()


class Monitor:
    """Counts results as they come, and keeps the newest one of each source.

    Args:
        sources: those of the run, in their order.
        machine: returns the machine's state; called at each snapshot, so it must not take long.
        outputs: returns the states of the outputs.
    """

    def __init__(
        self,
        facts: Facts,
        sources: Sequence[Source],
        *,
        machine: Callable[[], Machine],
        outputs: Callable[[], tuple[OutputStatus, ...]] = no_outputs,
    ) -> None:
        self._facts, self._sources, self._machine, self._outputs = facts, sources, machine, outputs
        self._recorder = LatencyRecorder(keep=KEEP_RESULTS)
        self._newest: dict[int, Seen] = {}
        self._number = 0
        self._began_s = time.monotonic()
        self._first_s = self._last_s = 0.0
        self._first_result_s: float | None = None
        self._pace = Pace()
        self._changed = threading.Condition()

    def add(self, frame: Frame, result: Result) -> None:
        """Count one result, now; wakes who waits for it."""
        now_s = time.monotonic()
        if self._first_result_s is None:
            self._first_result_s, self._first_s = process.age_s(), now_s
        with self._changed:
            self._recorder.add(result.stages_ms)
            self._last_s = now_s
            self._pace.add(now_s)
            self._number += 1
            self._newest[result.source] = Seen(self._number, frame, result)
            self._changed.notify_all()

    def newest(self, source: int | None = None) -> Seen | None:
        """Return the newest result, of one source or of all; None before the first."""
        with self._changed:
            return self._latest(source)

    def wait_newer(self, number: int, timeout_s: float, *, source: int | None = None) -> Seen | None:
        """Return the newest result once there is one with a number above `number`; None if none came within the time."""
        with self._changed:
            self._changed.wait_for(lambda: (seen := self._latest(source)) is not None and seen.number > number, timeout_s)
            seen = self._latest(source)
        return seen if seen is not None and seen.number > number else None

    def status(self) -> Status:
        """Return the run as it is now."""
        now_s = time.monotonic()
        with self._changed:
            stages = {stage: self._recorder.values_ms(stage, newest=RECENT_RESULTS) for stage in self._recorder.stages}
            fps, results, last_s = self._pace.fps(now_s), self._number, self._last_s
            seen = sorted(self._newest.items())
        sources = tuple(source.status() for source in self._sources)
        return Status(
            *self._facts,
            time_s=time.time(),
            uptime_s=now_s - self._began_s,
            results=results,
            fps=fps,
            quality=worst(status.quality for status in sources),
            sources=sources,
            outputs=self._outputs(),
            stages_ms={stage: percentiles(values) for stage, values in stages.items()},
            machine=self._machine(),
            result_age_s=now_s - last_s if results else None,
            answer={source: tuple((label, score) for _, label, score in one.result.top_k) for source, one in seen},
        )

    def latency(self, newest: int) -> dict[str, Percentiles]:
        """Return the percentiles by stage of the newest so many results."""
        with self._changed:
            stages = {stage: self._recorder.values_ms(stage, newest=newest) for stage in self._recorder.stages}
        return {stage: percentiles(values) for stage, values in stages.items() if values}

    def summary(self) -> Summary:
        """Return the whole run."""
        span_s = self._last_s - self._first_s
        fps = (self._number - 1) / span_s if self._number > 1 and span_s > 0 else None
        sources = tuple(source.status() for source in self._sources)
        return Summary(self._number, fps, self._recorder.summary(), self._first_result_s, sources, self._outputs())

    def _latest(self, source: int | None) -> Seen | None:
        if source is not None:
            return self._newest.get(source)
        return max(self._newest.values(), key=lambda seen: seen.number, default=None)
