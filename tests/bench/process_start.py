"""What starting a process costs: the device's first result and memory, and the command line's `--help`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bundles import small_bundle
from entry import Entry, at_most, machine, median

RUNS = 5
CHILD = Path(__file__).with_name("stopwatch_child.py")


def first_result() -> list[Entry]:
    """Time the camera command from process start to its first result on the test pattern, and take its peak memory."""
    bundle = small_bundle()
    camera = ["-m", "edgedistill.runtime", "camera", str(bundle), "--source", "test://", "--frames", "1", "--output", "jsonl"]
    runs = repeat([sys.executable, *camera])
    how = f"median of {RUNS} processes: camera on {bundle.name}, test:// pattern, one frame, from process start; {machine()}"
    return [
        at_most("first_result_s", median([run["first_line_s"] for run in runs]), bound=0.8, unit="s", how=how),
        at_most("peak_rss_mb", median([run["peak_rss_mb"] for run in runs]), bound=120.0, unit="MB", how=how),
    ]


def help_start() -> list[Entry]:
    """Time `edgedistill --help` from process start to its end."""
    runs = repeat([str(Path(sys.executable).with_name("edgedistill")), "--help"])
    how = f"median of {RUNS} processes, process start to end; {machine()}"
    return [at_most("help_start_s", median([run["total_s"] for run in runs]), bound=0.5, unit="s", how=how)]


def repeat(command: Sequence[str], *, runs: int = RUNS) -> list[dict[str, Any]]:
    """Run a command once to warm the disk cache and then `runs` times, and return what each run took."""
    return [timed(command) for _ in range(runs + 1)][1:]


def timed(command: Sequence[str]) -> dict[str, Any]:
    """Run a command in a process of its own and return what it took; a command that fails or says nothing is an error."""
    done = subprocess.run([sys.executable, "-S", str(CHILD), *command], capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"cannot time {' '.join(command)}: {done.stderr.strip()}")
    took: dict[str, Any] = json.loads(done.stdout)
    if took["exit_code"] != 0 or not took["first_line"]:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {took['exit_code']}: {done.stderr.strip() or 'no output'}")
    return took
