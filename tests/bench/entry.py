"""What one benchmark says: a value, its unit, the bound it must keep and how it was taken."""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "runs" / "bench"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of results.json; a bound of None means that the value is for information only."""

    name: str
    value: float
    unit: str
    bound: float | None
    ok: bool
    how: str


Measure = Callable[[], Sequence[Entry]]


def at_most(name: str, value: float, *, bound: float | None, unit: str, how: str) -> Entry:
    """Return an entry that is fine when its value does not exceed the bound."""
    return Entry(name=name, value=round(value, 4), unit=unit, bound=bound, ok=bound is None or value <= bound, how=how)


def median(values: Sequence[float]) -> float:
    """Return the median of at least one value."""
    return float(statistics.median(values))


def interleave(measures: Sequence[Callable[[], float]], *, rounds: int) -> list[list[float]]:
    """Run several measures in turn, so that what the machine does meanwhile meets all of them; return the values by measure.

    The order turns round every round, so that no measure always follows the same other one.
    """
    values: list[list[float]] = [[] for _ in measures]
    for number in range(rounds):
        order = range(len(measures)) if number % 2 == 0 else reversed(range(len(measures)))
        for index in order:
            values[index].append(measures[index]())
    return values


def machine() -> str:
    """Return the load that others put on the machine, for the `how` of an entry."""
    return f"{os.cpu_count()} CPUs, load average {os.getloadavg()[0]:.1f}, Python {sys.version_info.major}.{sys.version_info.minor}"
