"""Runs in the emulation: inferences of one model file between marks that the counting plugin sees. `arm_counted.py BUNDLE FILE`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from edgedistill import bundle, preprocess
from edgedistill.runtime.engines import open_engine
from edgedistill.runtime.pattern import draw_pattern

MARK = 0x3B9ACA00
WARMUP, COUNTED = 2, 1


def mark(number: int) -> None:
    """Let the plugin note what was counted since the last mark."""
    with suppress(OSError):
        os.close(MARK + number)


def main() -> None:
    """Run a file of a bundle with one thread."""
    loaded = bundle.load(Path(sys.argv[1]))
    engine = open_engine(loaded, sys.argv[2], threads=1)
    engine.set_input(preprocess.Preprocessor(loaded.manifest.input)(draw_pattern(0)))
    for _ in range(WARMUP):
        engine.invoke()
    mark(0)
    engine.invoke()
    mark(COUNTED)


if __name__ == "__main__":
    main()
