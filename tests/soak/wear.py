"""What months do to a loop, in minutes: many frames, an engine that is too slow for its camera, outputs that are too slow for the loop."""

from __future__ import annotations

import functools
import itertools
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from children import classifier, in_child, pictures, resources
from entry import Entry, at_most, interleave, machine, median
from http_camera_server import HttpCamera

from edgedistill.runtime.camera import Classifier, Result, run
from edgedistill.runtime.frames import Frame
from edgedistill.runtime.monitor import Facts, Monitor
from edgedistill.runtime.output import Background, Output
from edgedistill.runtime.sources import open_source
from edgedistill.runtime.status import Machine

FRAMES, WARM_FRAMES, EVERY = 100_000, 20_000, 500
#: Into so many pieces a long run is cut to see a drift; at each so-many-th frame the interpreter alone is timed beside the loop.
PIECES, BARE_EVERY = 16, 10
SLOWER, AGED_FRAMES, CAMERA_FPS = 5, 150, 30.0
BUSY_S, ROUNDS = 0.5, 41
PATTERN = "test://pattern?width=320&height=240&fps="


def many_frames() -> list[Entry]:
    """Run 100,000 frames through loop and monitor; memory's slope, and how p95 of a frame drifts against the interpreter's alone."""
    found = in_child("wear", "run_frames", FRAMES)
    how = (
        f"{FRAMES:,} frames of the test pattern in {found['seconds']:.0f} s, the first {WARM_FRAMES:,} left out, "
        f"slope by least squares, drift of p95 by the median slope over {PIECES} pieces, each in p95s of bare invokes beside; "
        f"{machine()}"
    )
    return [
        at_most("rss_slope_mb_per_hour", found["slope_mb_per_hour"], bound=1.0, unit="MB/h", how=how),
        at_most("rss_slope_kb_per_10k_frames", found["slope_kb_per_10k_frames"], bound=None, unit="kB", how=how),
        at_most("p95_drift", found["p95_drift"], bound=0.10, unit="", how=how),
    ]


def run_frames(count: int) -> dict[str, float]:
    """Return slope of memory and drift of latency over a run."""
    classify = classifier()
    # memory that is touched before the run, so that what the measurement keeps is not taken for what the loop keeps
    samples, taken = np.full(((count - WARM_FRAMES) // EVERY + 1, 3), np.nan), 0
    turn_ms, bare_ms = np.full(count, np.nan, np.float32), np.full(count, np.nan, np.float32)
    began_s = time.monotonic()
    with open_source(f"{PATTERN}0&frames={count}", ahead=classify.ahead()) as source:
        monitor = Monitor(Facts("", "", "", 1), [source], machine=lambda: Machine(None, None, None))
        for number, (frame, result) in enumerate(run(classify, source)):
            monitor.add(frame, result)
            turn_ms[number] = result.stages_ms["preprocess"] + result.stages_ms["invoke"] + result.stages_ms["postprocess"]
            if number % BARE_EVERY == 0:
                start = time.perf_counter()
                classify.engine.invoke()
                bare_ms[number] = (time.perf_counter() - start) * 1e3
            if number >= WARM_FRAMES and number % EVERY == 0:
                samples[taken] = time.monotonic() - began_s, number, resources()["rss_mb"]
                taken += 1
    seconds, numbers, rss_mb = samples[:taken].T
    pieces = zip(np.array_split(turn_ms[WARM_FRAMES:], PIECES), np.array_split(bare_ms[WARM_FRAMES:], PIECES), strict=True)
    return {
        "seconds": float(seconds[-1]),
        "slope_mb_per_hour": float(np.polyfit(seconds, rss_mb, 1)[0] * 3600),
        "slope_kb_per_10k_frames": float(np.polyfit(numbers, rss_mb, 1)[0] * 1e4 * 1e3),
        "p95_drift": drift(np.array([np.percentile(turns, 95) / np.nanpercentile(bare, 95) for turns, bare in pieces])),
    }


def drift(pieces: np.ndarray) -> float:
    """Return by which share of itself a value rises over a run that is cut into equally long pieces, (N,).

    By the median of the slopes of all pairs (Theil and Sen), which a disturbance of a few pieces does not move.
    """
    one, other = np.triu_indices(len(pieces), k=1)
    slope = np.median((pieces[other] - pieces[one]) / (other - one))
    return float(slope * (len(pieces) - 1) / np.median(pieces))


def frame_age() -> list[Entry]:
    """Let inference take five times as long as the camera's interval."""
    interval_s = 1 / CAMERA_FPS
    classify = classifier()
    invoke = classify.engine.invoke

    def slowly() -> None:
        invoke()
        time.sleep(SLOWER * interval_s)

    classify.engine.invoke = slowly  # type: ignore[method-assign]
    ages_ms, invokes_ms = [], []
    with HttpCamera(list(pictures()), fps=CAMERA_FPS) as camera, open_source(camera.address, ahead=classify.ahead()) as source:
        for _, result in itertools.islice(run(classify, source), AGED_FRAMES):
            ages_ms.append(result.stages_ms["total"])
            invokes_ms.append(result.stages_ms["invoke"])
    bound = interval_s * 1e3 + float(np.percentile(invokes_ms, 99))
    how = (
        f"p99 over {AGED_FRAMES} results, HTTP camera of {CAMERA_FPS:g} frames a second, inference {SLOWER} times its interval; {machine()}"
    )
    return [at_most("frame_age_ms", float(np.percentile(ages_ms, 99)), bound=round(bound, 1), unit="ms", how=how)]


class Blocked:
    """An output whose reader never reads: a full pipe."""

    name = "blocked"

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()

    def write(self, frame: Frame, result: Result) -> None:
        self._ours.sendall(frame.frame_bgr.data)

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


class FullDisk:
    """An output on a disk without room."""

    name = "full disk"

    def write(self, frame: Frame, result: Result) -> None:
        with Path("/dev/full").open("wb", buffering=0) as stream:
            stream.write(frame.frame_bgr.data)

    def close(self) -> None:
        pass


class ClosedPipe:
    """An output whose reader has gone."""

    name = "closed pipe"

    def write(self, frame: Frame, result: Result) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    def close(self) -> None:
        pass


def slow_outputs() -> list[Entry]:
    """Compare the rate of a loop at full speed with and without an output that is slow, broken or away, in turn."""
    makers: dict[str, Callable[[Monitor], Output]] = {
        "blocked_pipe": lambda monitor: Blocked(),
        "closed_pipe": lambda monitor: ClosedPipe(),
        "full_disk": lambda monitor: FullDisk(),
        "dead_mqtt_broker": dead_broker,
    }
    entries = []
    for name, maker in makers.items():
        alone, beside = interleave([lambda: loop_fps(None), lambda maker=maker: loop_fps(maker)], rounds=ROUNDS)  # type: ignore[misc]
        cost = 1 - median([with_it / without for with_it, without in zip(beside, alone, strict=True)])
        how = f"share of the rate of a loop at full speed that is lost, median of {ROUNDS} interleaved pairs of {BUSY_S:g} s; {machine()}"
        entries.append(at_most(f"cost_of_{name}", cost, bound=0.02, unit="", how=how))
    return entries


def dead_broker(monitor: Monitor) -> Output:
    """Return a publisher to a port where nobody listens."""
    from edgedistill.runtime.mqtt import MqttOptions, Publisher

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    publisher = Publisher(MqttOptions(address=f"mqtt://127.0.0.1:{port}", images=True), monitor, labels=["a", "b"])
    publisher.start()
    return publisher


@functools.cache
def one_classifier() -> Classifier:
    """Return the classifier of all short runs, so that none of them begins with loading it."""
    return classifier()


def loop_fps(maker: Callable[[Monitor], Output] | None) -> float:
    """Return results a second of a loop at full speed on frames in memory."""
    classify = one_classifier()
    frames = [Frame(number, frame_bgr, 0.0, 0.0, 0.0) for number, frame_bgr in enumerate(pictures())]
    with open_source(f"{PATTERN}0") as source, output_of(maker, source) as (monitor, outputs):
        count, began_s = 0, time.monotonic()
        while time.monotonic() - began_s < BUSY_S:
            frame = frames[count % len(frames)]._replace(id=count, captured_s=time.monotonic())
            result = classify(frame)
            monitor.add(frame, result)
            for output in outputs:
                output.write(frame, result)
            count += 1
        return count / (time.monotonic() - began_s)


@contextmanager
def output_of(maker: Callable[[Monitor], Output] | None, source: object) -> Iterator[tuple[Monitor, list[Background]]]:
    """Yield a monitor and the output, if any, behind its thread."""
    monitor = Monitor(Facts("", "", "", 1), [source], machine=lambda: Machine(None, None, None))  # type: ignore[list-item]
    outputs = [Background(maker(monitor))] if maker else []
    try:
        yield monitor, outputs
    finally:
        for output in outputs:
            output.close(0.2)
