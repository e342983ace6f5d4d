"""How the command `camera` is put together: what feeds the service manager's watchdog, and that nothing stays open after an error."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest

from edgedistill.errors import OutputError
from edgedistill.runtime import camera_command
from edgedistill.runtime.camera import Result
from edgedistill.runtime.camera_command import CameraOptions, feed_while_waiting, in_background
from edgedistill.runtime.frames import Frame
from edgedistill.runtime.output import OUTPUT_THREAD, Output
from edgedistill.runtime.recording import RecordOptions
from edgedistill.runtime.serve import ServeOptions
from edgedistill.runtime.status import SourceStatus

RUNNING = SourceStatus("cam", 0, "running", "excellent", 30.0, 30.0, 100, {}, 0, 0, 1.0, patience_s=2.0)
SLOW = RUNNING._replace(age_s=100.0, patience_s=150.0)
AWAY = RUNNING._replace(state="reconnecting", age_s=100.0)
OVERDUE = RUNNING._replace(age_s=100.0)


class ToldSource:
    """A source that says what it is told to say."""

    def __init__(self, now: SourceStatus) -> None:
        self.now = now

    def status(self) -> SourceStatus:
        return self.now


@pytest.mark.parametrize(
    ("sources", "fed"),
    [([RUNNING], 1), ([SLOW], 1), ([AWAY], 1), ([SLOW, AWAY], 1), ([OVERDUE], 0), ([SLOW, OVERDUE], 0), ([AWAY, OVERDUE], 0)],
)
def test_to_wait_is_no_hang_but_to_miss_what_is_overdue_is(sources: list[SourceStatus], fed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    meals: list[int] = []
    monkeypatch.setattr(camera_command.notify, "alive", lambda: meals.append(1))
    given: Any = [ToldSource(now) for now in sources]
    feed_while_waiting(given)
    assert len(meals) == fed


def test_a_window_is_served_while_no_frame_comes(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second frame is due in a hundred seconds, q is pressed in the first of them."""
    keys = iter([-1, -1, -1, ord("q")])
    monkeypatch.setenv("DISPLAY", ":0")
    for name in ("namedWindow", "imshow", "destroyAllWindows"):
        monkeypatch.setattr(cv2, name, lambda *arguments: None, raising=False)
    monkeypatch.setattr(cv2, "waitKey", lambda delay: next(keys), raising=False)
    options = CameraOptions(sources=("test://pattern?fps=0.01",), output="none", show=True)
    began_s = time.monotonic()
    assert camera_command.camera_command(bundle_path, options) == 0
    assert time.monotonic() - began_s < 30
    assert next(keys, None) is None


class QuietOutput:
    """An output that notes that it was closed."""

    name = "quiet"

    def __init__(self) -> None:
        self.closed = threading.Event()

    def write(self, frame: Frame, result: Result) -> None:
        """Take nothing."""

    def close(self) -> None:
        self.closed.set()


def no_output_thread() -> bool:
    return not any(thread.name.startswith(OUTPUT_THREAD) for thread in threading.enumerate())


def test_an_output_that_does_not_open_closes_those_before_it() -> None:
    first = QuietOutput()

    def opened() -> Iterator[Output]:
        yield first
        raise OutputError("there is no room")

    with pytest.raises(OutputError, match="there is no room"):
        in_background(opened(), lossless=False, stop=threading.Event())
    assert first.closed.is_set()
    assert no_output_thread()


def test_a_port_that_is_taken_leaves_no_recording_behind(bundle_path: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = CameraOptions(
            sources=("test://pattern?frames=3",),
            output="none",
            record=RecordOptions(folder=tmp_path / "events", above=0.0),
            serve=ServeOptions(port=taken.getsockname()[1]),
        )
        with pytest.raises(OutputError):
            camera_command.camera_command(bundle_path, options)
    assert not (tmp_path / "events").exists()
    assert no_output_thread()
