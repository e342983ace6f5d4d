"""A run to look at, without a camera: a real monitor over sources that say what they are told, fed by a thread at a given rate."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from edgedistill.postprocess import Prediction
from edgedistill.runtime.camera import Result
from edgedistill.runtime.frames import Frame
from edgedistill.runtime.monitor import Facts, Monitor
from edgedistill.runtime.status import Machine, OutputStatus, SourceStatus

LABELS = ("T-shirt", "sneaker", "ankle boot")


class ToldSource:
    """A source whose state is what the test sets in `now`."""

    def __init__(self, number: int = 0, **now: object) -> None:
        self.now = SourceStatus(f"camera {number}", number, "running", "excellent", 30.0, 30.0, 0, {"newer frame": 0}, 0, 0, 0.01)
        self.set(**now)

    def set(self, **now: object) -> None:
        self.now = self.now._replace(**now)

    def status(self) -> SourceStatus:
        return self.now


def watching(
    *sources: ToldSource,
    outputs: tuple[OutputStatus, ...] = (OutputStatus("text", 900, 3, 0, None),),
    machine: Callable[[], Machine] = lambda: Machine(61.5, [], 83.0),
) -> Monitor:
    """Return a monitor of sources, one by default."""
    return Monitor(Facts("tiny", "tiny.tflite", "fake", 2), sources or (ToldSource(),), machine=machine, outputs=lambda: outputs)


def frame_of(number: int, *, source: int = 0, size_wh: tuple[int, int] = (640, 480)) -> Frame:
    """Return a frame that differs from its neighbours: a disc goes round on a ground of its own colour."""
    width, height = size_wh
    image_bgr = np.full((height, width, 3), (90, 70 + 40 * source, 60), np.uint8)
    centre = (round(width * (0.5 + 0.3 * math.cos(number / 15))), round(height * (0.5 + 0.3 * math.sin(number / 15))))
    cv2.circle(image_bgr, centre, height // 6, (60, 160, 235), -1, cv2.LINE_AA)
    return Frame(number, image_bgr, time.monotonic(), time.time(), 1.0, source)


def result_of(frame: Frame, *, label: str | None = None) -> Result:
    """Return an answer, with latencies that go up and down with the frame's number."""
    swing = 1 + 0.2 * math.sin(frame.id / 40)
    stages_ms = {"capture": 1.1 * swing, "preprocess": 0.4, "invoke": 5.2 * swing, "postprocess": 0.15}
    top = (Prediction(0, label or LABELS[0], 0.874), Prediction(1, LABELS[1], 0.08), Prediction(2, LABELS[2], 0.03))
    spike = 4.0 if frame.id % 50 == 0 else 0.0
    return Result(
        top, frame.id, frame.captured_s, frame.time_s, stages_ms | {"total": sum(stages_ms.values()) + spike}, frame.id // 9, frame.source
    )


def add(monitor: Monitor, number: int, *, source: int = 0, label: str | None = None, size_wh: tuple[int, int] = (640, 480)) -> None:
    """Give a monitor one result."""
    frame = frame_of(number, source=source, size_wh=size_wh)
    monitor.add(frame, result_of(frame, label=label))


@contextmanager
def fed(monitor: Monitor, *, fps: float = 30.0, sources: int = 1) -> Iterator[threading.Event]:
    """Give a monitor results at a rate for as long as the block lasts; while the yielded event is set, none come."""
    over, away = threading.Event(), threading.Event()

    def feed() -> None:
        for number in itertools.count():
            if over.wait(1 / fps):
                return
            for source in range(0 if away.is_set() else sources):
                add(monitor, number, source=source)

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    try:
        yield away
    finally:
        over.set()
        thread.join()
