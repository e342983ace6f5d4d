"""What was found of a network's operators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

Method = Literal["profiler", "prefixes", "counted"]

#: What a reader of the figures must know of how they were taken.
METHODS: dict[Method, str] = {
    "profiler": (
        "timed by the interpreter's own profiler, which takes time of its own at each operator: cheap ones look dearer than they are; "
        "operators that it fuses are told as one"
    ),
    "prefixes": (
        "timed by cutting the network after each operator: it costs what the network takes longer with it than without; "
        "one that the interpreter fuses with the next is charged what it costs alone, and the next one the rest"
    ),
    "counted": "not timed: counted from the file's tensors, so the share is that of multiplications, not of time",
}


class Operator(NamedTuple):
    """One operator.

    Args:
        name: of its first output.
        type: what the interpreter calls this kind.
        share: of the whole, 0 to 1: of the time where it was timed, else of the multiplications.
        ms: None where it was not timed; slightly below 0 where the time of a cheap one drowns in the noise.
        noise_ms: standard error of `ms`; None where it was not timed.
        macs: multiplications with additions; None where unknown.
        bytes: of what it reads and writes, weights included; None where unknown.
    """

    name: str
    type: str
    share: float
    ms: float | None
    noise_ms: float | None
    macs: int | None
    bytes: int | None


class Timed(NamedTuple):
    """Milliseconds and their standard error."""

    ms: float
    noise_ms: float


def timed(values_ms: Sequence[float] | np.ndarray) -> Timed:
    """Return the median of at least one value and its standard error, judged by the middle half: outliers do not count."""
    low, middle, high = np.percentile(np.asarray(values_ms), [25, 50, 75])
    deviation = (high - low) / 1.349  # as if they were normally distributed
    return Timed(float(middle), float(1.253 * deviation / math.sqrt(len(values_ms))))


class Found(NamedTuple):
    """All operators, in the order they run in; `total_ms` is one whole `invoke`, measured apart, None where nothing was timed."""

    file: str
    engine: str
    threads: int
    method: Method
    runs: int
    total_ms: float | None
    operators: tuple[Operator, ...]


def top(found: Found, count: int = 10) -> list[Operator]:
    """Return the operators with the largest shares, largest first."""
    return sorted(found.operators, key=lambda operator: -operator.share)[:count]
