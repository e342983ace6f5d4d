"""What is said aloud during a run: changes, once each."""

from __future__ import annotations

import logging
import threading

import pytest

from edgedistill.runtime import reporter
from edgedistill.runtime.quality import Quality
from edgedistill.runtime.reporter import Reporter, changes, one_line
from edgedistill.runtime.status import Machine, SourceStatus, State, Status


def source(number: int = 0, state: State = "running", quality: Quality = "excellent") -> SourceStatus:
    return SourceStatus(f"cam{number}", number, state, quality, 30.0, 30.0, 9, {}, 0, 0, 0.01)


def status(*sources: SourceStatus, throttled: list[str] | None = None, fps: float | None = 29.97) -> Status:
    machine = Machine(50.0, throttled, 80.0)
    return Status("tiny", "tiny.tflite", "fake", 1, 0.0, 1.0, 9, fps, "fair", sources or (source(),), (), {}, machine, 0.1, {})


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (None, status(), []),
        (status(), status(), []),
        (None, status(source(state="opening")), []),
        (None, status(source(quality="fair")), ["cam0: quality is fair"]),
        (status(), status(source(state="reconnecting", quality="poor")), ["cam0: quality is poor"]),
        (status(source(state="reconnecting", quality="poor")), status(source(state="reconnecting", quality="poor")), []),
        (status(source(quality="poor")), status(), ["cam0: quality is excellent"]),
        (status(), status(source(state="ended")), []),
        (status(source(0), source(1)), status(source(0), source(1, quality="poor")), ["cam1: quality is poor"]),
        (status(), status(throttled=["throttled now"]), ["the board says: throttled now; figures taken now are too low"]),
        (status(throttled=["throttled now"]), status(throttled=["throttled now"]), []),
        (None, status(throttled=["throttled since start"]), []),
        (
            status(throttled=[]),
            status(throttled=["throttled now", "throttled since start"]),
            ["the board says: throttled now; figures taken now are too low"],
        ),
        (status(throttled=["throttled now"]), status(throttled=["throttled since start"]), []),
        (
            status(throttled=[]),
            status(throttled=["throttled since start"]),
            ["the board says: throttled since start; it was so for a moment, and figures taken then are too low"],
        ),
    ],
)
def test_only_what_changes_is_said(before: Status | None, now: Status, expected: list[str]) -> None:
    assert list(changes(before, now)) == expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (status(), "30.0 results a second, quality fair"),
        (status(fps=None), "9 results so far, quality fair"),
        (status(source(), source(1, "opening")), "30.0 results a second, quality fair, waiting for cam1"),
    ],
)
def test_one_line(now: Status, expected: str) -> None:
    assert one_line(now) == expected


def test_it_says_each_change_once_and_ends(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(reporter, "EVERY_S", 0.005)
    seen, enough = [], threading.Event()

    def also(now: Status) -> None:
        seen.append(now)
        if len(seen) == 4:
            enough.set()

    with caplog.at_level(logging.WARNING), Reporter(lambda: status(source(quality="poor")), also=also):
        assert enough.wait(10)
    assert [record.getMessage() for record in caplog.records] == ["cam0: quality is poor"]
    assert not any(thread.name == "reporter" for thread in threading.enumerate())
