"""Two hundred viewers at once: the server lives, each is served or refused, and the loop goes on as before.

The viewers are on this same machine, so their own work is not the loop's loss: what counts is the rate of a loop that leaves time,
and of one that leaves none, how long it waits for a lock that somebody else has.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import pytest
from asking import ask
from watched import frame_of, result_of, watching

from edgedistill.runtime.monitor import Monitor
from edgedistill.runtime.serve import ServeOptions, serve

SCHEDULER = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not SCHEDULER.exists(), reason="the kernel does not tell how long threads wait")]

VIEWERS, ROUNDS = 200, 3
#: By then some viewer has a stream, also on a busy machine: the server's share of a core is small.
STREAM_WITHIN_S = 60.0


class Pace(NamedTuple):
    """How a loop went: results a second, and the share of time in which it neither ran nor waited for a core."""

    fps: float
    blocked: float


def ran_and_waited_s() -> float:
    """Return for how long this thread ran or was ready to run."""
    path = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
    return sum(int(text) for text in path.read_text().split()[:2]) / 1e9


class Loop:
    """A camera loop with something like an inference in it: arithmetic outside of the interpreter's lock, and a new frame each time."""

    def __init__(self, monitor: Monitor, fps: float | None) -> None:
        self.monitor, self.fps = monitor, fps
        self.frames = [frame_of(number) for number in range(30)]
        self.matrix = np.ones((360, 360), np.float32)
        self.product = np.empty_like(self.matrix)
        self.number = 0

    def run(self, seconds: float) -> Pace:
        began_s = next_s = time.monotonic()
        began_at, used_s = self.number, ran_and_waited_s()
        while time.monotonic() - began_s < seconds:
            if self.fps is not None:
                next_s += 1 / self.fps
                time.sleep(max(0.0, next_s - time.monotonic()))
            for _ in range(4):
                np.dot(self.matrix, self.matrix, out=self.product)
            self.number += 1
            frame = self.frames[self.number % len(self.frames)]._replace(id=self.number)
            self.monitor.add(frame, result_of(frame))
        took_s = time.monotonic() - began_s
        return Pace((self.number - began_at) / took_s, 1 - (ran_and_waited_s() - used_s) / took_s)


@contextmanager
def viewers(address: str) -> Iterator[Callable[[str], dict[str, int]]]:
    """Yield what tells the viewers to go or to stop, and returns what they have seen until then."""
    program = [sys.executable, str(Path(__file__).with_name("viewers.py")), address, str(VIEWERS)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def tell(word: str) -> dict[str, int]:
            process.stdin.write(f"{word}\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        tell("stop")
        yield tell
        process.stdin.close()


@pytest.mark.parametrize("fps", [30.0, None])
def test_two_hundred_viewers_cost_the_loop_nothing(fps: float | None) -> None:
    monitor = watching()
    loop = Loop(monitor, fps)
    alone: list[Pace] = []
    watched: list[Pace] = []
    with serve(monitor, ServeOptions(port=0)) as where, viewers(where) as tell:
        loop.run(0.5)
        for _ in range(ROUNDS):
            tell("stop")
            loop.run(0.2)
            alone.append(loop.run(1.0))
            tell("go")
            streams = tell("seen").get("stream 200", 0)
            until_s = time.monotonic() + STREAM_WITHIN_S
            loop.run(0.8)
            while tell("seen").get("stream 200", 0) == streams and time.monotonic() < until_s:
                loop.run(0.2)
            watched.append(loop.run(1.2))
        seen = tell("stop")
        loop.run(0.3)
        assert ask(where, "/healthz").status == 200
    ratio = median(after.fps / before.fps for before, after in zip(alone, watched, strict=True))
    blocked = median(pace.blocked for pace in watched) - median(pace.blocked for pace in alone)
    print(f"{fps or 'as many as can be'} a second: rate {ratio:.1%} of before, {blocked:.2%} of the time blocked by others; {seen}")
    assert seen["/ 200"] > ROUNDS
    assert seen.get("stream 200", 0) >= ROUNDS, f"viewers without a stream: {seen}"
    assert not [reply for reply in seen if reply.endswith(("500", "400", "401", "404"))]
    if fps is not None:
        assert ratio >= 0.98
    else:
        assert blocked <= 0.02
