"""Frames whose grey is their number, results with a given score, and clips read back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from edgedistill.postprocess import Prediction
from edgedistill.runtime.camera import Result
from edgedistill.runtime.frames import Frame
from edgedistill.runtime.recording import Recorder, RecordOptions
from edgedistill.runtime.recording.clip import Note
from edgedistill.runtime.recording.events import Picture

LABELS = ["cat", "dog"]
INTERVAL_S = 0.1
BEGIN_S = 1.7e9
SIZE_HW = (48, 64)
NOTE = Note(BEGIN_S, 0, "cam0", SIZE_HW)


class Origin(NamedTuple):
    name: str
    live: bool = True
    fps: float | None = 10.0


def frame_of(number: int, *, source: int = 0, size_hw: tuple[int, int] = SIZE_HW, interval_s: float = INTERVAL_S) -> Frame:
    grey = (number * 3) % 210 + 20
    at_s = number * interval_s
    return Frame(number, np.full((*size_hw, 3), grey, np.uint8), at_s, BEGIN_S + at_s, 0.0, source)


def noise_of(number: int) -> Frame:
    """Return a frame that takes much room as JPEG."""
    noise = np.random.default_rng(number).integers(0, 256, (120, 160, 3), np.uint8)
    return frame_of(number)._replace(frame_bgr=noise)


def result_of(frame: Frame, score: float, label: str = "cat") -> Result:
    seen = Prediction(LABELS.index(label), label, score)
    return Result((seen,), frame.id, frame.captured_s, frame.time_s, {}, 0, frame.source, watched=seen)


def picture_of(number: int, *, score: float = 0.9) -> Picture:
    frame = frame_of(number)
    jpeg = cv2.imencode(".jpg", frame.frame_bgr)[1].tobytes()
    return Picture(frame.captured_s, frame.time_s, SIZE_HW, jpeg, score, "cat")


def recorder_of(folder: Path, *, sources: Sequence[Origin] = (Origin("cam0"),), **options: Any) -> Recorder:
    given = {"above": 0.8, "below": 0.6, "pre_roll_s": 0.35, "post_roll_s": 0.25} | options
    return Recorder(RecordOptions(folder=folder, **given), sources)


def record(recorder: Recorder, scores: list[float], *, first: int = 0, label: str = "cat", sources: int = 1) -> Recorder:
    """Give a recorder frames with these scores, of so many sources."""
    for number, score in enumerate(scores, start=first):
        for source in range(sources):
            frame = frame_of(number, source=source)
            recorder.write(frame, result_of(frame, score, label))
    return recorder


def frames_in(clip: Path, backend: int = cv2.CAP_ANY) -> list[int]:
    """Return the numbers of a clip's frames by their grey, having checked that it says how many there are."""
    capture = cv2.VideoCapture(str(clip), backend)
    assert capture.isOpened()
    greys = []
    while (read := capture.read())[0]:
        greys.append(round((float(read[1].mean()) - 20) / 3))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == len(greys)
    return greys


def clips_of(folder: Path) -> list[Path]:
    """Return a folder's clips in the order of their events."""
    return sorted(folder.glob("*.avi"), key=lambda path: path.stem)


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
