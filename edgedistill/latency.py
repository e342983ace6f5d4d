"""Stopwatch, warm-up and percentiles: how every latency in edgedistill is taken and told."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

import numpy as np

STAGES = ("capture", "preprocess", "invoke", "postprocess", "total")


class Percentiles(NamedTuple):
    """A latency's distribution in milliseconds; never a bare mean."""

    p50: float
    p90: float
    p99: float
    max: float


def percentiles(values_ms: Collection[float] | np.ndarray) -> Percentiles:
    """Return p50, p90, p99 (linear interpolation) and the maximum of at least one latency."""
    if len(values_ms) == 0:
        raise ValueError("no latencies were recorded: run more frames than the warm-up discards")
    ordered = sorted(float(value) for value in values_ms)
    return Percentiles(_quantile(ordered, 0.50), _quantile(ordered, 0.90), _quantile(ordered, 0.99), ordered[-1])


def _quantile(ordered: list[float], share: float) -> float:
    """Return what `share` of the values are below; by hand, for the live page asks every second and numpy takes ten times as long."""
    whole, part = divmod((len(ordered) - 1) * share, 1)
    low, high = ordered[int(whole)], ordered[min(int(whole) + 1, len(ordered) - 1)]
    return low + (high - low) * part


class LatencyRecorder:
    """Collect per-stage latencies of frames.

    Args:
        warmup: how many frames to leave out at the start.
        keep: remember only the newest so many, for loops that run for days; all by default.
    """

    def __init__(self, *, warmup: int = 0, keep: int | None = None) -> None:
        self.warmup = warmup
        self.frames = 0
        self._keep = keep
        self._stages_ms: dict[str, deque[float]] = {}

    def add(self, stages_ms: dict[str, float]) -> None:
        """Record one frame's stages in milliseconds."""
        self.frames += 1
        if self.frames <= self.warmup:
            return
        for stage, value in stages_ms.items():
            self._stages_ms.setdefault(stage, deque(maxlen=self._keep)).append(value)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that were recorded, in the order they were first seen."""
        return tuple(self._stages_ms)

    def values_ms(self, stage: str, *, newest: int | None = None) -> list[float]:
        """Return what was recorded of a stage, in order: all, or the newest so many."""
        kept = self._stages_ms.get(stage, deque())
        return list(kept) if newest is None else list(islice(reversed(kept), newest))[::-1]

    def summary(self) -> dict[str, Percentiles]:
        """Return the percentiles of each stage, in the order they were first seen."""
        return {stage: percentiles(values) for stage, values in self._stages_ms.items()}


class Elapsed:
    """Milliseconds that a `stopwatch` block took; 0 until the block has ended."""

    ms = 0.0


@contextmanager
def stopwatch() -> Iterator[Elapsed]:
    """Time a block with the monotonic clock: `with stopwatch() as took: …; took.ms`."""
    elapsed = Elapsed()
    start = time.perf_counter_ns()
    try:
        yield elapsed
    finally:
        elapsed.ms = (time.perf_counter_ns() - start) / 1e6
