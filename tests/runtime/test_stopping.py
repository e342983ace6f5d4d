"""Signals: the first one asks, the second one forces, a run that does not end is ended, and handlers are given back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from edgedistill.runtime import stopping
from edgedistill.runtime.stopping import leave, stop_on_signals


@pytest.fixture
def codes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the codes that the process would have been ended with."""
    ended: list[int] = []
    monkeypatch.setattr(stopping.os, "_exit", ended.append)
    return ended


def graces() -> list[threading.Thread]:
    """Return every thread that waits for a run's end: one of an earlier test may be among them for a moment."""
    return [thread for thread in threading.enumerate() if thread.name == "grace"]


def test_signals_are_given_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_on_signals():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize(("second", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_ends_at_once(codes: list[int], second: int, code: int) -> None:
    with stop_on_signals() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        assert codes == []
        signal.raise_signal(second)
    assert codes == [code]


def test_a_run_that_does_not_end_is_ended(codes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "GRACE_S", 0.05)
    with stop_on_signals():
        signal.raise_signal(signal.SIGTERM)
        for thread in graces():
            thread.join(10)
    assert codes == [143]


def test_a_run_that_ends_in_time_is_left_alone(codes: list[int]) -> None:
    with stop_on_signals():
        signal.raise_signal(signal.SIGINT)
        waiting = graces()
    for thread in waiting:
        thread.join(10)
    assert codes == []
    assert os._exit == codes.append


@pytest.mark.parametrize("daemon", [True, False])
def test_a_thread_that_works_in_the_background_ends_the_process_hard(
    codes: list[int], daemon: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = threading.Thread(name="capture cam", daemon=daemon)
    monkeypatch.setattr(stopping.threading, "enumerate", lambda: [threading.main_thread(), thread])
    assert leave(4) == 4
    assert codes == ([4] if daemon else [])


ENCODES_AT_THE_END = """
import sys, threading, time
import cv2, numpy
from edgedistill.runtime.stopping import leave

def encode():
    image = numpy.random.default_rng(0).integers(0, 255, (2000, 2000, 3), numpy.uint8)
    started.set()
    while True:
        cv2.imencode(".png", image)

started = threading.Event()
threading.Thread(target=encode, daemon=True).start()
started.wait()
time.sleep(0.05)
print("done")
sys.exit(leave(0))
"""


def test_a_thread_in_opencv_does_not_abort_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", ENCODES_AT_THE_END], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
