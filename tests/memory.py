"""How much memory Python and numpy take during a call: what is asked for in a loop that should take none."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def traced_peak(call: Callable[[], object], *, warmup: int = 3) -> int:
    """Return the bytes that a call takes at most beyond what was taken before it, once it has run a few times."""
    with _traced(call, warmup) as before:
        tracemalloc.reset_peak()
        call()
        return tracemalloc.get_traced_memory()[1] - before


def traced_growth(call: Callable[[], object], *, times: int) -> int:
    """Return the bytes that are taken after `times` calls and were not after the first few."""
    with _traced(call, 3) as before:
        for _ in range(times):
            call()
        return tracemalloc.get_traced_memory()[0] - before


@contextmanager
def _traced(call: Callable[[], object], warmup: int) -> Iterator[int]:
    """Trace memory once a call has run a few times, and once under trace; yield the bytes that are taken then."""
    for _ in range(warmup):
        call()
    gc.collect()
    tracemalloc.start()
    try:
        call()
        yield tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
