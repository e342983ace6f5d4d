"""Measurements in a process of their own, so that memory, threads and descriptors are those of what is measured alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from entry import ROOT

from edgedistill import bundle
from edgedistill.runtime.camera import Classifier
from edgedistill.runtime.engines import open_engine

HERE = Path(__file__).resolve().parent
SAMPLES = 50


def in_child(module: str, function: str, *arguments: object, timeout_s: float = 1800) -> dict[str, Any]:
    """Run a function of a module of this folder in a new process and return the dict that it returned."""
    code = (
        f"import sys, json; sys.path[:0] = {[str(HERE), str(HERE.parent / 'bench'), str(HERE.parent)]!r}\n"
        f"import {module}; print(json.dumps({module}.{function}(*json.loads(sys.argv[1]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(arguments)], stdout=subprocess.PIPE, text=True, timeout=timeout_s, check=True
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def classifier(file: str = "tflite-int8") -> Classifier:
    """Return a classifier of a shipped MobileNetV2 at 160 pixels with one thread."""
    loaded = bundle.load(ROOT / "export" / "garments-mobilenetv2")
    return Classifier(loaded, open_engine(loaded, file, threads=1))


def pictures(count: int = 8) -> list[np.ndarray]:
    """Return `count` different (240, 320, 3) frames, the same every time."""
    return list(np.random.default_rng(0).integers(0, 256, (count, 240, 320, 3), np.uint8))


def resources() -> dict[str, float]:
    """Return resident memory in MB, threads and open descriptors of this process."""
    rss = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return {"rss_mb": rss, "threads": float(threading.active_count()), "descriptors": float(len(os.listdir("/proc/self/fd")))}


def settled() -> dict[str, float]:
    """Return the least of each over a second: what comes and goes with each reconnect is there at one moment, and not at another."""
    samples = []
    for _ in range(SAMPLES):
        samples.append(resources())
        time.sleep(1 / SAMPLES)
    return {name: min(sample[name] for sample in samples) for name in samples[0]}


def growth(work: Callable[[], object]) -> dict[str, float]:
    """Return how much of each resource a piece of work keeps."""
    before = settled()
    work()
    after = settled()
    return {name: after[name] - before[name] for name in before}
