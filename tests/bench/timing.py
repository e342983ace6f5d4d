"""Timing one engine's bare `invoke`."""

from __future__ import annotations

import time

import numpy as np

from edgedistill.bundle import Bundle
from edgedistill.preprocess import Preprocessor
from edgedistill.runtime.engines import Engine


def frames(count: int, *, height: int = 480, width: int = 640) -> list[np.ndarray]:
    """Return `count` different (height, width, 3) uint8 BGR frames."""
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 256, (count, height, width, 3), np.uint8))


def prepare(engine: Engine, bundle: Bundle, *, warmup: int = 20) -> Engine:
    """Fill an engine's input with a frame's pixels and run it a few times."""
    engine.set_input(Preprocessor(bundle.manifest.input)(frames(1)[0]))
    for _ in range(warmup):
        engine.invoke()
    return engine


def invoke_ms(engine: Engine) -> float:
    """Return the milliseconds of one bare `invoke`."""
    start = time.perf_counter_ns()
    engine.invoke()
    return (time.perf_counter_ns() - start) / 1e6
