"""The device's own command line, run by the demo in processes of their own, and what their output says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.demo.clip import read_truth, streaming_accuracy
from edgedistill.errors import EngineError
from edgedistill.runtime.results import ResultLine, read_results

SHIPPED_FILE = "tflite-int8"  # the file that goes to the camera


def device(*arguments: str) -> str:
    """Run the device's command line in a process of its own and return its standard output."""
    command = [sys.executable, "-m", "edgedistill.runtime", *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise EngineError(
            f"`python -m edgedistill.runtime {' '.join(arguments)}` ended with code {finished.returncode}: {finished.stderr.strip()}"
        )
    return finished.stdout


def read_camera(lines: Path) -> list[ResultLine]:
    """Return the results of a camera run that is over, one a frame."""
    rows = list(read_results(lines, finished=True))
    if not rows:
        raise EngineError(f"{lines} holds no result; remove the demo's folder and run the demo again")
    return rows


def camera_results(lines: Path, truth_file: Path) -> dict[str, Any]:
    """Return the camera section of results.json from the loop's own JSON lines."""
    rows = read_camera(lines)
    found = streaming_accuracy([(row.frame_id, row.top_k[0].class_id if row.top_k else None) for row in rows], read_truth(truth_file))
    totals = np.array([row.stages_ms.total for row in rows])
    spent = rows[-1].time_monotonic_s - rows[0].time_monotonic_s
    p50, p90, p99 = np.percentile(totals, [50, 90, 99])
    return {
        "accuracy": found.accuracy,
        "fps": (len(rows) - 1) / spent if spent > 0 else None,
        "frames": found.frames,
        "dropped": rows[-1].dropped,
        "latency_ms": {"p50": p50, "p90": p90, "p99": p99},
    }
