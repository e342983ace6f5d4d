"""What a run says of itself: right counts and rates, the newest frame for whoever waits, and no growth."""

from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest

from edgedistill.postprocess import Prediction
from edgedistill.runtime import monitor as monitor_module
from edgedistill.runtime.camera import Result
from edgedistill.runtime.frames import Frame
from edgedistill.runtime.monitor import Facts, Monitor
from edgedistill.runtime.quality import Quality
from edgedistill.runtime.status import Machine, OutputStatus, SourceStatus

FACTS = Facts("tiny", "tiny.tflite", "fake", 1)
MACHINE = Machine(50.0, [], 80.0)


class QuietSource:
    """A source that says what it is told to say."""

    def __init__(self, number: int = 0, quality: Quality = "excellent") -> None:
        self.number, self.quality = number, quality

    def status(self) -> SourceStatus:
        return SourceStatus(f"cam{self.number}", self.number, "running", self.quality, 30.0, 30.0, 9, {"newer frame": 2}, 0, 0, 0.01)


def watching(*sources: QuietSource) -> Monitor:
    return Monitor(FACTS, sources or (QuietSource(),), machine=lambda: MACHINE)


def add(monitor: Monitor, number: int, *, source: int = 0) -> tuple[Frame, Result]:
    frame = Frame(number, np.zeros((4, 4, 3), np.uint8), 0.0, 0.0, 0.0, source)
    result = Result((Prediction(1, f"class{source}", 0.9),), number, 0.0, 0.0, {"total": float(number)}, 0, source)
    monitor.add(frame, result)
    return frame, result


def test_before_the_first_result() -> None:
    status = watching().status()
    assert (status.results, status.fps, status.result_age_s, status.stages_ms, status.answer) == (0, None, None, {}, {})
    assert (status.bundle, status.file, status.engine, status.threads) == FACTS
    summary = watching().summary()
    assert (summary.frames, summary.fps, summary.first_result_s, summary.stages_ms) == (0, None, None, {})


def test_a_snapshot_tells_all_sources_outputs_and_the_worst_quality() -> None:
    outputs = (OutputStatus("text", 3, 1, 0, None),)
    monitor = Monitor(FACTS, (QuietSource(0), QuietSource(1, "poor")), machine=lambda: MACHINE, outputs=lambda: outputs)
    add(monitor, 7)
    add(monitor, 3, source=1)
    status = monitor.status()
    assert (status.results, status.quality, status.machine, status.outputs) == (2, "poor", MACHINE, outputs)
    assert [source.name for source in status.sources] == ["cam0", "cam1"]
    assert status.answer == {0: (("class0", 0.9),), 1: (("class1", 0.9),)}
    assert status.stages_ms["total"].max == 7
    assert status.result_age_s is not None
    assert status.result_age_s >= 0


def test_one_result_has_no_rate() -> None:
    monitor = watching()
    add(monitor, 0)
    assert monitor.summary().fps is None
    assert monitor.status().fps is None
    assert monitor.summary().first_result_s is not None


def test_the_rate_of_a_run_is_from_the_first_to_the_last_result(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(100.0, 0.5)
    monitor = watching()
    monkeypatch.setattr(monitor_module.time, "monotonic", lambda: next(clock))
    for number in range(5):
        add(monitor, number)
    assert monitor.summary().fps == pytest.approx(2.0)


def test_a_long_run_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_module, "KEEP_RESULTS", 10)
    monitor = watching()
    for number in range(100):
        add(monitor, number)
    summary = monitor.summary()
    assert summary.frames == 100
    assert summary.stages_ms["total"].p50 == pytest.approx(94.5)


def test_a_snapshot_is_of_the_newest_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_module, "RECENT_RESULTS", 4)
    monitor = watching()
    for number in range(100):
        add(monitor, number)
    assert monitor.status().stages_ms["total"].p50 == pytest.approx(97.5)
    assert monitor.summary().stages_ms["total"].p50 == pytest.approx(49.5)


def test_the_newest_of_all_and_of_each_source() -> None:
    monitor = watching(QuietSource(0), QuietSource(1))
    assert monitor.newest() is None
    first, second = add(monitor, 5), add(monitor, 2, source=1)
    newest = monitor.newest()
    assert newest is not None
    assert (newest.number, newest.frame, newest.result) == (2, *second)
    of_first = monitor.newest(0)
    assert of_first is not None
    assert (of_first.number, of_first.frame, of_first.result) == (1, *first)
    assert monitor.newest(9) is None


def test_who_waits_gets_a_newer_one_or_none() -> None:
    monitor = watching()
    assert monitor.wait_newer(0, 0.01) is None
    add(monitor, 0)
    seen = monitor.wait_newer(0, 0.0)
    assert seen is not None
    assert monitor.wait_newer(seen.number, 0.01) is None
    threading.Timer(0.05, add, (monitor, 1)).start()
    newer = monitor.wait_newer(seen.number, 10.0)
    assert newer is not None
    assert (newer.number, newer.result.frame_id) == (2, 1)


def test_who_waits_for_one_source_is_not_served_another() -> None:
    monitor = watching(QuietSource(0), QuietSource(1))
    add(monitor, 0)
    assert monitor.wait_newer(0, 0.02, source=1) is None
    assert monitor.wait_newer(0, 0.02, source=0) is not None


def test_snapshots_from_another_thread_while_results_come() -> None:
    monitor, over, failures = watching(), threading.Event(), []

    def look() -> None:
        while not over.is_set():
            try:
                monitor.status()
            except Exception as error:
                failures.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    end_s = time.monotonic() + 0.3
    for number in itertools.count():
        add(monitor, number)
        if time.monotonic() > end_s:
            break
    over.set()
    thread.join()
    assert failures == []
