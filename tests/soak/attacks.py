"""Hostile cameras, and a live page that many look at."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

from children import classifier, in_child, pictures, resources
from entry import Entry, at_most, interleave, machine, median
from http_camera_server import HttpCamera, Mode

from edgedistill.errors import SourceError
from edgedistill.runtime.camera import LoopOptions, run
from edgedistill.runtime.frames import Frame
from edgedistill.runtime.monitor import Facts, Monitor
from edgedistill.runtime.pace import Timing
from edgedistill.runtime.sources import open_source
from edgedistill.runtime.status import Machine

MODES = [mode for mode in get_args(Mode) if mode != "well"]
MODE_S = 4.0
QUICK = Timing(stall_s=0.5, open_s=1.0, first_retry_s=0.05, eager_s=1e9, jitter=0)
VIEWERS, LOOP_S, PAIRS = 200, 4.0, 41


def hostile_cameras() -> list[Entry]:
    """Meet every kind of misbehaviour in a process of its own each; memory beyond a well-behaved camera's is what may grow."""
    well = in_child("attacks", "meet", "well")
    entries = []
    for mode in MODES:
        found = in_child("attacks", "meet", mode)
        how = (
            f"peak memory beyond that with a good camera, {MODE_S:g} s of mode {mode!r}: {found['reconnects']:.0f} reconnects, "
            f"{found['undecodable']:.0f} undecodable; {machine()}"
        )
        entries.append(at_most(f"hostile_{mode}_mb", found["rss_mb"] - well["rss_mb"], bound=64.0, unit="MB", how=how))
    return entries


def meet(mode: Mode) -> dict[str, float]:
    """Run the loop on a camera that turns bad, and return peak memory and what was counted; anything uncounted would raise."""
    peak_mb, over = [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            peak_mb[0] = max(peak_mb[0], resources()["rss_mb"])

    thread, classify = threading.Thread(target=watch), classifier()
    with HttpCamera(list(pictures()), fps=30) as camera, open_source(camera.address, timing=QUICK, ahead=classify.ahead()) as source:
        thread.start()
        turn = threading.Timer(0.5, setattr, (camera, "mode", mode))
        turn.start()
        with suppress(SourceError):
            for _ in run(classify, source, options=LoopOptions(duration_s=MODE_S)):
                pass
        over.set()
        thread.join()
        turn.join()
        counts = source.counts
        return {"rss_mb": peak_mb[0], "reconnects": float(counts.reconnects), "undecodable": float(source.skipped)}


def viewers() -> list[Entry]:
    """Compare the rate of a loop at full speed with and without 200 viewers of its live page, in turn."""
    served = [0]

    def with_viewers() -> float:
        rate, served[0] = watched_fps(VIEWERS)
        return rate

    alone, watched = interleave([lambda: watched_fps(0)[0], with_viewers], rounds=PAIRS)
    cost = 1 - median([with_them / without for with_them, without in zip(watched, alone, strict=True)])
    how = (
        f"share of the rate of a loop at full speed that {VIEWERS} viewers of the stream cost, "
        f"{served[0]} of them served, the others refused, median of {PAIRS} interleaved pairs of {LOOP_S:g} s; "
        f"the viewers are a process of lowest priority on the same cores; {machine()}"
    )
    return [at_most("cost_of_200_viewers", cost, bound=0.02, unit="", how=how)]


def watched_fps(count: int) -> tuple[float, int]:
    """Return results a second of a loop with so many viewers, and how many of them were sent pictures."""
    from edgedistill.runtime.serve import ServeOptions, serve

    classify, frames = classifier(), pictures()
    with open_source("test://pattern?fps=0") as source:
        monitor = Monitor(Facts("", "", "", 1), [source], machine=lambda: Machine(None, None, None))
        with serve(monitor, ServeOptions(port=0)) as address, crowd(address, count) as served:
            turns, began_s = 0, time.monotonic()
            while time.monotonic() - began_s < LOOP_S:
                frame = Frame(turns, frames[turns % len(frames)], time.monotonic(), time.time(), 0.0)
                monitor.add(frame, classify(frame))
                turns += 1
            rate = turns / (time.monotonic() - began_s)
        return rate, served[0]


@contextmanager
def crowd(address: str, count: int) -> Iterator[list[int]]:
    """Let so many viewers look at a page from a process of their own; what is yielded holds in the end how many were sent pictures."""
    served = [0]
    if count == 0:
        yield served
        return
    place = urlsplit(address)
    command = [sys.executable, str(Path(__file__).with_name("crowd.py")), str(place.hostname), str(place.port), str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # all have asked
            yield served
            served[0] = int(process.communicate("over\n", timeout=30)[0])
        finally:
            process.kill()
