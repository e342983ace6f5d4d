"""What is done about OpenCV's ways: its messages, its errors within streams, its versions."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterable

import cv2
import pytest

from edgedistill.runtime import opencv
from edgedistill.runtime.frames import Traits
from edgedistill.runtime.opencv import MOST_FAILURES, OpenCvCapture, StreamCapture, quiet, warn_of_sizes

STREAM = Traits("stream", live=True, ends=False)


class Grabbing:
    """Answers `grab` as told, and with no more after that; counts how often it was asked."""

    def __init__(self, answers: Iterable[bool]) -> None:
        self._answers = iter(answers)
        self.asked = 0

    def grab(self) -> bool:
        self.asked += 1
        return next(self._answers, False)


def test_a_live_source_keeps_opencv_to_one_thread() -> None:
    code = (
        "import cv2; from edgedistill.runtime.live import LiveSource; cv2.setNumThreads(2); LiveSource(print); print(cv2.getNumThreads())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "1"


@pytest.mark.parametrize(
    ("failures", "grabbed", "asked"), [(0, True, 1), (1, True, 2), (MOST_FAILURES - 1, True, MOST_FAILURES), (999, False, MOST_FAILURES)]
)
def test_a_stream_goes_on_after_broken_packets_and_a_device_does_not(failures: int, grabbed: bool, asked: int) -> None:
    capture = Grabbing([False] * failures + [True])
    assert StreamCapture(capture, STREAM).grab() == grabbed  # type: ignore[arg-type]
    assert capture.asked == asked
    assert OpenCvCapture(Grabbing([False, True]), STREAM).grab() is False  # type: ignore[arg-type]


def test_a_time_limit_or_an_interruption_is_no_broken_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted, limited = Grabbing([False, True]), Grabbing([False, True])
    stream = StreamCapture(interrupted, STREAM)  # type: ignore[arg-type]
    stream.interrupt()
    assert not stream.grab()
    monkeypatch.setattr(opencv, "LONG_S", 0.0)
    assert not StreamCapture(limited, STREAM).grab()  # type: ignore[arg-type]
    assert interrupted.asked == limited.asked == 1


def test_opencv_4_is_quiet_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[int] = []
    monkeypatch.setattr(cv2, "setLogLevel", levels.append, raising=False)
    monkeypatch.delattr(cv2.utils, "logging", raising=False)
    quiet()
    assert levels == [0]


@pytest.mark.parametrize(("version", "warned"), [("4.6.0", True), ("4.12.0", True), ("4.13.0", False), ("5.0.0-dev", False)])
def test_an_opencv_that_does_not_follow_sizes_is_told_once(
    version: str, warned: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cv2, "__version__", version)
    warn_of_sizes.cache_clear()
    with caplog.at_level(logging.WARNING):
        warn_of_sizes()
        warn_of_sizes()
    warn_of_sizes.cache_clear()
    assert [f"OpenCV {version} gives wrong pictures" in record.getMessage() for record in caplog.records] == [True] * warned
