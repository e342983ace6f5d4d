"""What the camera loop adds to a network's bare `invoke`: preprocessing, postprocessing and the loop itself."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from bundles import large_bundle
from entry import Entry, at_most, interleave, machine, median
from timing import frames, invoke_ms, prepare

from edgedistill import bundle
from edgedistill.bundle import Bundle
from edgedistill.runtime import camera, open_engine
from edgedistill.runtime.camera import Classifier, Result
from edgedistill.runtime.ending import CaptureSource
from edgedistill.runtime.frames import Frame, Traits

WARMUP, BLOCKS, ROUNDS = 20, 15, 60
SHARE, LEAST_MS = 0.10, 0.3


class MemoryCapture:
    """A `Capture` that hands out frames from memory at once, for ever, so that only the loop is timed and no decoding."""

    traits = Traits("memory")

    def __init__(self, frames_bgr: Sequence[np.ndarray]) -> None:
        self._frames_bgr = itertools.cycle(frames_bgr)

    def grab(self) -> bool:
        return True

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, next(self._frames_bgr)

    def interrupt(self) -> None:
        pass

    def release(self) -> None:
        pass


def loop_overhead() -> list[Entry]:
    """Compare one turn of the camera loop with a bare `invoke` of the same interpreter, in interleaved runs.

    Twice: as the camera command runs it, which preprocesses in the thread that captures, while the network runs; and with all of it
    in the loop, which is what a frame is older by when nothing was there to be done meanwhile (this has no bound).
    """
    loaded = bundle.load(large_bundle())
    ahead, within = measured(loaded, ahead=True), measured(loaded, ahead=False)
    return [
        at_most("loop_overhead", ahead.added_ms, bound=allowed_ms(ahead.bare_ms), unit="ms", how=ahead.how),
        at_most("loop_overhead preprocessing in the loop", within.added_ms, bound=None, unit="ms", how=within.how),
    ]


class Overhead(NamedTuple):
    """What a turn takes beyond a bare `invoke`, what that takes, and how it was measured."""

    added_ms: float
    bare_ms: float
    how: str


def measured(loaded: Bundle, *, ahead: bool) -> Overhead:
    """Measure one way of running the loop."""
    engine = prepare(open_engine(loaded, "tflite-int8", threads=1), loaded)
    classify = Classifier(loaded, engine)
    with CaptureSource(MemoryCapture(frames(8)), ahead=classify.ahead() if ahead else None) as source:
        turns = camera.run(classify, source)
        for _ in range(WARMUP):
            next(turns)
        added_ms, bare_ms = added_and_bare_ms(lambda: time_turn_ms(turns), lambda: invoke_ms(engine))
    how = (
        f"p50 of a whole turn of the loop beyond p50 of bare invoke ({bare_ms:.3f} ms, so {added_ms / bare_ms:.1%} on top), "
        f"{ROUNDS} interleaved runs each, median of {BLOCKS} such blocks; 640x480 frames, {loaded.manifest.name} int8, "
        f"{engine.name} {engine.version}, 1 thread; {machine()}"
    )
    return Overhead(added_ms, bare_ms, how)


def added_and_bare_ms(turn: Callable[[], float], bare: Callable[[], float]) -> tuple[float, float]:
    """Return the median over blocks of p50(turn) - p50(bare), and of p50(bare).

    Blocks, because on a shared machine the speed changes for seconds at a time: within a block both are equally lucky.
    """
    blocks = [tuple(map(median, interleave([turn, bare], rounds=ROUNDS))) for _ in range(BLOCKS)]
    return median([turn_ms - bare_ms for turn_ms, bare_ms in blocks]), median([bare_ms for _, bare_ms in blocks])


def allowed_ms(bare_ms: float) -> float:
    """Return what the loop may add to an `invoke` of `bare_ms`: 10 % of it or 0.3 ms, whichever is larger."""
    return round(max(SHARE * bare_ms, LEAST_MS), 4)


def time_turn_ms(turns: Iterator[tuple[Frame, Result]]) -> float:
    """Return the milliseconds from asking the loop for a result to having it."""
    start = time.perf_counter_ns()
    next(turns)
    return (time.perf_counter_ns() - start) / 1e6
