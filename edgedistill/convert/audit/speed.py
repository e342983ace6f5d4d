"""Latencies of several things in turn, so that what the machine does meanwhile meets all of them.

In each round each thing runs a short burst. Its first run is not counted: it finds the caches as the thing before left them,
which is nobody's case. What is compared are the bursts of one round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edgedistill.metrics import median_interval

Clock = Callable[[], int]
Run = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When to stop measuring.

    Args:
        seconds: not much longer than this, once there are `fewest` rounds.
        fewest: rounds in any case; fewer than six give no 95 % interval of a median.
        most: rounds at the utmost.
        precise: the interval's half width, as a fraction of the ratio, that is narrow enough.
        burst: counted runs of a thing in a round.
    """

    seconds: float = 3.0
    fewest: int = 9
    most: int = 300
    precise: float = 0.01
    burst: int = 3


class Ratio(NamedTuple):
    """How long one thing takes against another: median of the rounds' ratios and its 95 % interval; the first one's p50."""

    p50_ms: float
    ratio: float
    interval: tuple[float, float]
    rounds: int


def ratio(run: Run, against: Run, *, limits: Limits, clock: Clock = time.perf_counter_ns) -> Ratio:
    """Time two things in turn until the interval of their ratio is narrow, or time is over."""
    taken = interleaved([run, against], limits=limits, clock=clock, enough=lambda taken: _is_precise(taken, limits))
    ratios = _ratios(taken)
    return Ratio(float(np.median(taken[0])), float(np.median(ratios)), median_interval(ratios), len(ratios))


def interleaved(
    runs: Sequence[Run], *, limits: Limits, clock: Clock = time.perf_counter_ns, enough: Callable[[np.ndarray], bool] = lambda taken: False
) -> np.ndarray:
    """Return the milliseconds of each counted run, (things, rounds, burst); the order turns round every round."""
    for run in runs:
        run()
    rounds: list[np.ndarray] = []
    began = clock()
    while len(rounds) < limits.most:
        found = np.empty((len(runs), limits.burst))
        for index in range(len(runs)) if len(rounds) % 2 == 0 else reversed(range(len(runs))):
            found[index] = _burst(runs[index], limits.burst, clock=clock)
        rounds.append(found)
        over = (clock() - began) / 1e9 >= limits.seconds
        if len(rounds) >= limits.fewest and (over or enough(np.stack(rounds, axis=1))):
            break
    return np.stack(rounds, axis=1)


def _burst(run: Run, count: int, *, clock: Clock) -> list[float]:
    run()
    taken = []
    for _ in range(count):
        start = clock()
        run()
        taken.append(max(clock() - start, 1) / 1e6)
    return taken


def _ratios(taken: np.ndarray) -> np.ndarray:
    medians = np.median(taken, axis=2)
    ratios: np.ndarray = medians[0] / medians[1]
    return ratios


def _is_precise(taken: np.ndarray, limits: Limits) -> bool:
    if taken.shape[1] < 25 or taken.shape[1] % 5:
        return False
    ratios = _ratios(taken)
    low, high = median_interval(ratios)
    return (high - low) / 2 <= limits.precise * float(np.median(ratios))
