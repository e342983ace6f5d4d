"""Where frames come from: the text of `--source` to an opened source.

A new kind is a function from the text to a `Source` and one line in `SOURCES`.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable
from pathlib import Path

from edgedistill.errors import SourceError, close_matches
from edgedistill.runtime.cameras import cameras, open_camera, open_stream, redact
from edgedistill.runtime.files import IMAGE_SUFFIXES, open_images, open_video
from edgedistill.runtime.frames import Source
from edgedistill.runtime.pattern import open_pattern

SOURCES: dict[str, Callable[[str], Source]] = {
    "camera": open_camera,
    "video": open_video,
    "images": open_images,
    "http": open_stream,
    "https": open_stream,
    "rtsp": open_stream,
    "test": open_pattern,
}
SCHEMES = ("http", "https", "rtsp", "test")


def open_source(text: str) -> Source:
    """Open a camera (`0`, `/dev/video0`), a video, a folder or glob of images, `http://`, `rtsp://` or `test://pattern`."""
    return SOURCES[kind_of(text)](text)


def kind_of(text: str) -> str:
    """Return the key of `SOURCES` that the text of a source stands for."""
    scheme, separator, _ = text.partition("://")
    if separator:
        scheme = scheme.lower()
        if scheme not in SCHEMES:
            raise SourceError(
                f"{redact(text)}: there is no source of the kind {scheme}://; known: {_known()}.{close_matches(scheme, SCHEMES)}"
            )
        return scheme
    if re.fullmatch(r"(/dev/video)?[0-9]{1,3}", text):
        return "camera"
    path = Path(text)
    try:
        if (text and path.is_dir()) or path.suffix.lower() in IMAGE_SUFFIXES or (glob.has_magic(text) and not path.exists()):
            return "images"
        found = bool(text) and path.exists()
    except (OSError, ValueError) as error:
        raise SourceError(f"the source {text!r} cannot be read: {error}; known: {_known()}") from error
    if not found:
        there = ", ".join(camera.device for camera in cameras()) or "none"
        raise SourceError(f"the source {text!r} does not exist; known: {_known()}; cameras found: {there}")
    return "video"


def _known() -> str:
    return "a camera (0, /dev/video0), a video, a folder or glob of images, http://, https://, rtsp://, test://"
