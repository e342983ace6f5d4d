"""Sources that are files: a video, or the images of a folder or a glob; every frame in order, none dropped."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from edgedistill.errors import SourceError
from edgedistill.runtime.frames import Capture, Traits
from edgedistill.runtime.opencv import OpenCvCapture

log = logging.getLogger("edgedistill.runtime")

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def open_video(text: str) -> OpenCvCapture:
    """Open a video file."""
    path = Path(text)
    if not path.is_file() or not os.access(path, os.R_OK):
        raise SourceError(
            f"{text} cannot be read: it is missing, no file, or not yours to read; give a video, an image or a folder of images"
        )
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise SourceError(f"{text} is not a video that OpenCV reads, or it is cut short; play it, or convert it to MP4 (H.264)")
    return video_capture(capture, text)


def video_capture(capture: cv2.VideoCapture, name: str) -> OpenCvCapture:
    """Return the capture of an opened video of finite length."""
    frames, fps = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), capture.get(cv2.CAP_PROP_FPS)
    return OpenCvCapture(capture, Traits(name, fps=fps if fps > 0 else None, frames=frames if frames > 0 else None))


def open_images(text: str) -> Capture:
    """Open the images of a folder or a glob, sorted by path, or one image."""
    found = image_paths(text)
    if not found:
        raise SourceError(f"{text} has no image; expected files that end in {', '.join(sorted(IMAGE_SUFFIXES))}")
    return ImageCapture(found, text)


def image_paths(text: str) -> list[Path]:
    """Return the image files that a folder, a glob or a path stands for, sorted."""
    path = Path(text)
    candidates: Iterable[Path] = (
        path.iterdir() if path.is_dir() else map(Path, glob.glob(text, recursive=True) if not path.exists() else [text])
    )
    try:
        return sorted(found for found in candidates if found.suffix.lower() in IMAGE_SUFFIXES and found.is_file())
    except OSError as error:
        raise SourceError(f"{text} cannot be read: {error}; check its permissions") from error


class ImageCapture:
    """A `Capture` over image files; one that cannot be decoded is named in the log and skipped."""

    def __init__(self, paths: list[Path], name: str) -> None:
        self.traits = Traits(name, frames=len(paths))
        self._rest = iter(paths)
        self._path = Path()

    def grab(self) -> bool:
        path = next(self._rest, None)
        self._path = path or self._path
        return path is not None

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        try:
            data = np.fromfile(self._path, np.uint8)
            frame_bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        except (OSError, cv2.error) as error:
            log.warning("%s is skipped: %s", self._path, error)
            return False, None
        if frame_bgr is None:
            log.warning("%s is skipped: it is no image that OpenCV reads", self._path)
        return frame_bgr is not None, frame_bgr

    def interrupt(self) -> None:
        """Reading a file does not block for long."""

    def release(self) -> None:
        """Nothing to give back."""
