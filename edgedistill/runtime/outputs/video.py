"""Annotated video files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from edgedistill.errors import OutputError
from edgedistill.runtime.camera import Result
from edgedistill.runtime.disk import require_room
from edgedistill.runtime.frames import Frame
from edgedistill.runtime.output import Origin
from edgedistill.runtime.outputs.picture import annotate

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
DEFAULT_FPS = 30.0
#: A longer time without frames of a camera, such as an outage, is cut out of the video.
LONGEST_GAP_S = 1.0


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
        """Append a frame; one of another size is brought to the size of the first. Raises OutputError when the disk is full."""
        require_room(self.path.parent)
        if self._writer is None:
            self._open(image_bgr)
        assert self._writer is not None
        fits = image_bgr.shape[1::-1] == self._size_wh
        self._writer.write(image_bgr if fits else cv2.resize(image_bgr, self._size_wh))

    def _open(self, image_bgr: np.ndarray) -> None:
        size_wh = image_bgr.shape[1::-1]
        fourcc = cv2.VideoWriter.fourcc(*CODECS[self.path.suffix.lower()])
        writer = cv2.VideoWriter(str(self._part), fourcc, self.fps, size_wh)
        if not writer.isOpened():
            raise OutputError(
                f"{self.path} cannot be saved: the folder is not writable, or OpenCV lacks {CODECS[self.path.suffix.lower()]}"
            )
        self._writer, self._size_wh = writer, size_wh

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        elif self._writer is not None:
            self._writer.release()
            self._part.unlink(missing_ok=True)

    def close(self) -> None:
        """Finish the file and give it its name; does nothing if there was no frame."""
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        try:
            os.replace(self._part, self.path)
        except OSError as cause:
            raise OutputError(f"{self.path} cannot be saved: {cause}; check the disk's space and the folder's permissions") from cause


class AnnotatedVideo:
    """Frames with their answers in a video file for each source, at their true speed; an `Output`.

    A camera's frames are repeated or left out so that the video runs as fast as the world did; a file's are taken as they are.

    Args:
        path: of the video; with several sources, the source's place is added to the name: `out-0.mp4`, `out-1.mp4`.
    """

    def __init__(self, path: Path, sources: Sequence[Origin]) -> None:
        self.name = f"video {path.name}"
        paths = [path] if len(sources) < 2 else [path.with_name(f"{path.stem}-{place}{path.suffix}") for place in range(len(sources))]
        self._sources = sources
        self._files = [VideoFile(one, source.fps) for one, source in zip(paths, sources, strict=True)]
        self._pace = [Pace(file.fps) for file in self._files]

    def write(self, frame: Frame, result: Result) -> None:
        live = self._sources[frame.source].live
        count = self._pace[frame.source].images_until(frame.captured_s) if live else 1
        if count:
            image_bgr = annotate(frame.frame_bgr, result)
            for _ in range(count):
                self._files[frame.source].write(image_bgr)

    def close(self) -> None:
        with ExitStack() as stack:  # one that cannot be finished does not keep the others from it
            for file in self._files:
                stack.callback(file.close)


class Pace:
    """How many images bring a video of a constant rate up to a time."""

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._next_s: float | None = None

    def images_until(self, time_s: float) -> int:
        """Return how many images there are to be from the last call to now."""
        if self._next_s is None or time_s - self._next_s > LONGEST_GAP_S:
            self._next_s = time_s
        count = max(0, round((time_s - self._next_s) * self._fps) + 1)
        self._next_s += count / self._fps
        return count
