"""Outputs behind their threads: slow, failing, blocked and broken ones cost the loop nothing, and are counted."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from edgedistill.errors import OutputError
from edgedistill.runtime import output as module
from edgedistill.runtime.camera import Result
from edgedistill.runtime.frames import Frame
from edgedistill.runtime.output import Background

LONG_S = 10.0
IMAGE_BGR = np.zeros((4, 4, 3), np.uint8)


class FakeOutput:
    """An output that notes what it is given, or does with it what the test says; `gate` lets writes through."""

    name = "fake"

    def __init__(self, act: Callable[[int], None] = lambda number: None, *, is_open: bool = True) -> None:
        self.numbers: list[int] = []
        self.tried: list[int] = []
        self.begun, self.gate, self.closed = threading.Event(), threading.Event(), threading.Event()
        self.thread: threading.Thread | None = None
        self._act = act
        if is_open:
            self.gate.set()

    def write(self, frame: Frame, result: Result) -> None:
        self.thread = threading.current_thread()
        self.begun.set()
        self.gate.wait()
        self.tried.append(frame.id)
        self._act(frame.id)
        self.numbers.append(frame.id)

    def close(self) -> None:
        self.closed.set()


def fail(error: Exception, *, until: int = 10**9) -> Callable[[int], None]:
    """Return what raises an error for frames with numbers below `until`."""

    def act(number: int) -> None:
        if number < until:
            raise error

    return act


def give(background: Background, *numbers: int) -> None:
    for number in numbers:
        background.write(Frame(number, IMAGE_BGR, 0.0, 0.0, 0.0), Result((), number, 0.0, 0.0, {}, 0))


def wait_until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + LONG_S
    while not holds():
        assert time.monotonic() < end_s, "it never came to that"
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.002)


def test_results_are_written_in_order_by_another_thread() -> None:
    output = FakeOutput()
    background = Background(output, depth=100)
    give(background, *range(50))
    background.close(LONG_S)
    assert output.numbers == list(range(50))
    assert output.closed.is_set()
    assert output.thread is not None
    assert (output.thread.name, output.thread.daemon) == ("output fake", True)
    assert background.status() == ("fake", 50, 0, 0, None)
    assert not background.stuck


def test_a_blocked_output_drops_the_oldest_and_never_blocks_the_loop() -> None:
    output = FakeOutput(is_open=False)
    background = Background(output, depth=3)
    give(background, 0)
    assert output.begun.wait(LONG_S)
    began_s = time.monotonic()
    give(background, *range(1, 1001))
    assert time.monotonic() - began_s < LONG_S, "it would have waited for ever"
    assert background.status().dropped == 997
    output.gate.set()
    background.close(LONG_S)
    assert output.numbers == [0, 998, 999, 1000]
    assert background.status() == ("fake", 4, 997, 0, None)


def test_a_write_that_never_returns_does_not_hold_the_end() -> None:
    output = FakeOutput(is_open=False)
    background = Background(output)
    give(background, 0, 1, 2)
    assert output.begun.wait(LONG_S)
    background.close(0.05)
    assert background.stuck
    assert background.status().dropped == 2
    give(background, 3)
    assert background.status().dropped == 3
    output.gate.set()
    assert output.closed.wait(LONG_S), "what comes back late is closed all the same"
    assert output.numbers == [0]


def test_closing_gives_a_slow_output_only_its_time() -> None:
    output = FakeOutput(lambda number: time.sleep(0.02))
    background = Background(output, depth=1000)
    give(background, *range(1000))
    background.close(0.3)
    status = background.status()
    assert status.written + status.dropped >= 999
    assert status.dropped > 0
    assert output.closed.wait(LONG_S)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), OutputError("full"), ValueError("a bug")])
def test_failures_are_counted_told_once_and_tried_again(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    output = FakeOutput(fail(error, until=5))
    background = Background(output, depth=100)
    with caplog.at_level(logging.WARNING):
        give(background, *range(8))
        wait_until(lambda: len(output.tried) == 8)
        background.close(LONG_S)
    assert output.numbers == [5, 6, 7]
    assert background.status() == ("fake", 3, 0, 5, str(error))
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [f"fake failed: {error}"]


def test_each_trouble_is_told_with_its_end(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "WELL_S", 0.0)
    sick = {1, 2, 3, 6}

    def act(number: int) -> None:
        if number in sick:
            raise OSError(errno.ENOSPC, "No space left")

    background = Background(FakeOutput(act), depth=100)
    give(background, *range(9))
    background.close(LONG_S)
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "fake failed: [Errno 28] No space left",
        "fake works again",
        "fake failed: [Errno 28] No space left",
        "fake works again",
    ]
    assert background.status() == ("fake", 5, 0, 4, "[Errno 28] No space left")


def test_one_that_fails_now_and_then_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    def act(number: int) -> None:
        if number % 2:
            raise OSError(errno.EIO, "no")

    background = Background(FakeOutput(act), depth=100)
    give(background, *range(20))
    background.close(LONG_S)
    assert background.status()[1:4] == (10, 0, 10)
    assert len(caplog.records) == 1


def test_what_is_told_elsewhere_is_only_counted(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "WELL_S", 0.0)
    background = Background(FakeOutput(fail(OutputError("no broker", told_elsewhere=True), until=5)), depth=100)
    give(background, *range(8))
    background.close(LONG_S)
    assert background.status() == ("fake", 3, 0, 5, "no broker")
    assert not caplog.records


def test_failures_of_two_kinds_are_both_told(caplog: pytest.LogCaptureFixture) -> None:
    def act(number: int) -> None:
        raise OSError(errno.ENOSPC if number % 2 else errno.EIO, "no")

    background = Background(FakeOutput(act), depth=100)
    give(background, *range(6))
    background.close(LONG_S)
    assert background.status().failed == 6
    assert len(caplog.records) == 2


def test_the_pause_after_failures_doubles_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.1)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 5.0)
    pauses = [module.pause_s(failures) for failures in (1, 2, 3, 6, 7, 1000)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 3.2, 5.0, 5.0])


def test_an_output_in_its_pause_is_left_alone_and_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 1000.0)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 1000.0)
    output = FakeOutput(fail(OSError("no"), until=1))
    background = Background(output, depth=2)
    give(background, 0)
    wait_until(lambda: background.status().failed == 1)
    give(background, *range(1, 100))
    assert output.tried == [0]
    assert background.status().dropped == 97
    background.close(LONG_S)
    assert output.numbers == [98, 99]


def test_lossless_loses_nothing() -> None:
    output = FakeOutput(lambda number: time.sleep(0.0005))
    background = Background(output, depth=2, lossless=True)
    give(background, *range(100))
    background.close(LONG_S)
    assert output.numbers == list(range(100))
    assert background.status().dropped == 0


def test_lossless_waits_for_room_but_not_beyond_a_stop() -> None:
    stop = threading.Event()
    output = FakeOutput(is_open=False)
    background = Background(output, depth=1, lossless=True, stop=stop)
    give(background, 0)
    assert output.begun.wait(LONG_S)
    give(background, 1)
    writer = threading.Thread(target=give, args=(background, 2))
    writer.start()
    writer.join(0.05)
    assert writer.is_alive(), "there is no room"
    stop.set()
    writer.join(LONG_S)
    assert not writer.is_alive()
    output.gate.set()
    background.close(LONG_S)


def test_lossless_does_not_wait_for_an_output_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 1000.0)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 1000.0)
    background = Background(FakeOutput(fail(OSError("disk full"))), depth=1, lossless=True)
    give(background, 0)
    wait_until(lambda: background.status().failed == 1)
    give(background, *range(1, 50))
    assert background.status().dropped == 48
    background.close(LONG_S)


def test_a_closed_pipe_is_the_end_of_that_output() -> None:
    output = FakeOutput(fail(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    background = Background(output, depth=1, lossless=True)
    give(background, 0)
    assert output.closed.wait(LONG_S)
    assert background.broken
    give(background, 1, 2, 3)
    status = background.status()
    assert (status.failed, status.dropped) == (1, 3)
    background.close(LONG_S)
    assert output.tried == [0]


def test_a_failure_to_close_is_told(caplog: pytest.LogCaptureFixture) -> None:
    class Bad(FakeOutput):
        def close(self) -> None:
            raise OutputError("cannot be renamed")

    background = Background(Bad())
    background.close(LONG_S)
    assert background.status().error == "cannot be renamed"
    assert "cannot be renamed" in caplog.text


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="priorities of threads are Linux'")
def test_the_thread_steps_back_and_the_loop_does_not() -> None:
    found: list[int] = []
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    background = Background(FakeOutput(lambda number: found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))))
    give(background, 0)
    background.close(LONG_S)
    assert found == [min(19, before + module.NICENESS)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


BLOCKED_PIPE = """
import sys
from types import SimpleNamespace
from edgedistill.latency import STAGES
from edgedistill.runtime.camera import Result
from edgedistill.runtime.frames import Frame
from edgedistill.runtime.output import Background
from edgedistill.runtime.outputs import line_output, own_stdout
from edgedistill.runtime.stopping import leave
source = SimpleNamespace(name="more than a pipe takes" * 10_000)
background = Background(line_output("csv", own_stdout(), sources=[source], top_k=1))
for number in range(10):
    background.write(Frame(number, None, 0.0, 0.0, 0.0), Result((), number, 0.0, 0.0, dict.fromkeys(STAGES, 0.0), 0))
background.close(0.2)
print(background.stuck, background.broken, file=sys.stderr)
sys.exit(leave(7))
"""


@pytest.mark.parametrize(("reader", "told"), [("blocked", "True False"), ("gone", "False True")])
def test_a_pipe_that_nobody_reads_does_not_hold_the_process(reader: str, told: str) -> None:
    code = textwrap.dedent(BLOCKED_PIPE)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        if reader == "gone":
            process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(LONG_S) == 7
    assert errors.splitlines()[-1] == told
    assert "Exception ignored" not in errors
    assert "Fatal" not in errors
