"""What a run shows of its results: lines of text or JSON, an annotated picture, a video file, a window."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import msgspec
import numpy as np

from edgedistill.errors import MissingExtraError, OutputError
from edgedistill.runtime.camera import Result, Summary

SCHEMA = 1
CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
WINDOW = "edgedistill"
DEFAULT_FPS = 30.0
FONT = cv2.FONT_HERSHEY_SIMPLEX
UNICODE_FONT = int(cv2.__version__.partition(".")[0]) >= 5


def json_line(result: Result) -> str:
    """Return a result as one line of JSON."""
    line = {
        "schema": SCHEMA,
        "frame_id": result.frame_id,
        "time_s": result.time_s,
        "time_monotonic_s": result.captured_s,
        "top_k": [prediction._asdict() for prediction in result.top_k],
        "stages_ms": {stage: round(value, 4) for stage, value in result.stages_ms.items()},
        "dropped": result.dropped,
    }
    return msgspec.json.encode(line).decode()


def text_line(result: Result) -> str:
    """Return a result as one line to read."""
    dropped = f"  {result.dropped} dropped" if result.dropped else ""
    return f"{result.frame_id:>6}  {_answer(result)}  {result.stages_ms['total']:.1f} ms{dropped}"


def _answer(result: Result) -> str:
    return ", ".join(f"{label} {score:.1%}" for _, label, score in result.top_k) or "nothing above the threshold"


LINES = {"text": text_line, "jsonl": json_line}


def summary_text(summary: Summary) -> str:
    """Return a run's summary, a few lines to read."""
    fps = f", {summary.fps:.1f} a second" if summary.fps is not None else ""
    first = f", first result after {summary.first_result_s:.2f} s" if summary.first_result_s is not None else ""
    lines = [f"{summary.frames} frames{fps}, {summary.dropped} dropped, {summary.skipped} could not be read{first}"]
    if summary.stages_ms:
        lines.append(f"{'ms':<12}{'p50':>9}{'p90':>9}{'p99':>9}{'max':>9}")
    lines += [f"{stage:<12}" + "".join(f"{value:>9.2f}" for value in found) for stage, found in summary.stages_ms.items()]
    return "\n".join(lines)


def annotate(frame_bgr: np.ndarray, result: Result) -> np.ndarray:
    """Return a copy of a frame with the answer and the latency written on it.

    Args:
        frame_bgr: (H, W, 3) uint8; the letters grow with the smaller side.
    """
    image_bgr = frame_bgr.copy()
    height, width = image_bgr.shape[:2]
    scale = max(0.3, min(height, width) / 480 * 0.8)
    texts = [f"{label} {score:.0%}" for _, label, score in result.top_k] or ["-"]
    texts.append(f"{result.stages_ms['total']:.1f} ms" + (f", {result.dropped} dropped" if result.dropped else ""))
    line_height = round(34 * scale)
    panel = image_bgr[: min(height, line_height * len(texts) + round(14 * scale)), :]
    panel //= 3
    thickness = max(1, round(2 * scale))
    for number, text in enumerate(texts, start=1):
        # Before OpenCV 5 the built-in font has no letters beyond ASCII, and draws one question mark a byte.
        plain = text if UNICODE_FONT else text.encode("ascii", "replace").decode()
        fitting = min(scale, scale * (width - 16 * scale) / max(1, cv2.getTextSize(plain, FONT, scale, thickness)[0][0]))
        colour = (255, 255, 255) if number < len(texts) else (150, 230, 255)
        cv2.putText(image_bgr, plain, (round(8 * scale), line_height * number), FONT, fitting, colour, thickness, cv2.LINE_AA)
    return image_bgr


class VideoFile:
    """An annotated video, written under a temporary name and renamed when it is whole.

    Args:
        path: ends in .mp4 or .avi.
        fps: nominal rate of the source; 30 where it is not known.
    """

    def __init__(self, path: Path, fps: float | None) -> None:
        if path.suffix.lower() not in CODECS:
            raise OutputError(f"{path} cannot be saved: expected a name that ends in {' or '.join(CODECS)}")
        if not path.parent.is_dir() or path.is_dir():
            raise OutputError(
                f"{path} cannot be saved: it is a folder itself, or there is no folder {path.parent}; give the name of a file"
            )
        self.path, self.fps = path, fps or DEFAULT_FPS
        self._part = path.with_name(f".{path.stem}.part{path.suffix}")
        self._writer: cv2.VideoWriter | None = None
        self._size_wh = (0, 0)

    def write(self, image_bgr: np.ndarray) -> None:
        """Append a frame; one of another size is brought to the size of the first."""
        if self._writer is None:
            self._open(image_bgr)
        assert self._writer is not None
        fits = image_bgr.shape[1::-1] == self._size_wh
        self._writer.write(image_bgr if fits else cv2.resize(image_bgr, self._size_wh))

    def _open(self, image_bgr: np.ndarray) -> None:
        self._size_wh = image_bgr.shape[1::-1]
        fourcc = cv2.VideoWriter.fourcc(*CODECS[self.path.suffix.lower()])
        self._writer = cv2.VideoWriter(str(self._part), fourcc, self.fps, self._size_wh)
        if not self._writer.isOpened():
            raise OutputError(
                f"{self.path} cannot be saved: the folder is not writable, or OpenCV lacks {CODECS[self.path.suffix.lower()]}"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._writer is None:
            return
        self._writer.release()
        if kind is not None:
            self._part.unlink(missing_ok=True)
            return
        try:
            os.replace(self._part, self.path)
        except OSError as cause:
            raise OutputError(f"{self.path} cannot be saved: {cause}; check the disk's space and the folder's permissions") from cause


@contextmanager
def window() -> Iterator[None]:
    """Open a window for `show` and close it at the end; raises if this OpenCV or this machine has none."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise OutputError("there is no screen to show a window on (DISPLAY is not set); leave --show out, or use --save FILE")
    try:
        cv2.namedWindow(WINDOW, cv2.WINDOW_NORMAL)
    except cv2.error as error:
        raise MissingExtraError("an OpenCV with windows", "gui") from error
    try:
        yield
    finally:
        cv2.destroyAllWindows()


def show(image_bgr: np.ndarray) -> bool:
    """Show a frame in the window; return whether the run goes on, False after q or Escape."""
    cv2.imshow(WINDOW, image_bgr)
    return cv2.waitKey(1) & 0xFF not in (ord("q"), 27)
