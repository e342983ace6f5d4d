"""Where frames come from: the text of `--source` to an opened source.

A new kind is a function from the text to what opens it, and one line in `SOURCES`.
"""

from __future__ import annotations

import glob
import queue
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edgedistill.errors import SourceError, close_matches
from edgedistill.runtime.address import redact, split_scheme
from edgedistill.runtime.ahead import Ahead
from edgedistill.runtime.cameras import JOIN_S, camera, cameras, open_stream, usb_camera
from edgedistill.runtime.ending import CaptureSource
from edgedistill.runtime.files import IMAGE_SUFFIXES, open_images, open_video
from edgedistill.runtime.frames import CAPTURE_THREAD, Capture, Opening, Source, leave_signals_to_main
from edgedistill.runtime.gstreamer import NAME as PIPELINE
from edgedistill.runtime.gstreamer import TRY, gstreamer
from edgedistill.runtime.http_camera import open_http
from edgedistill.runtime.live import LiveSource
from edgedistill.runtime.oriented import Oriented
from edgedistill.runtime.pace import Timing
from edgedistill.runtime.pattern import open_pattern
from edgedistill.runtime.picamera import picamera
from edgedistill.runtime.presence import presence
from edgedistill.runtime.raw_frames import raw_frames
from edgedistill.runtime.rtsp import rtsp
from edgedistill.runtime.wishes import Wishes, parse_roi

__all__ = ["SOURCES", "Wishes", "kind_of", "open_source", "opening_of", "parse_roi"]

#: From the text of a source and what is wished of it to how it is opened; raises SourceError for a text that it cannot be.
SOURCES: dict[str, Callable[[str, Wishes], Opening]] = {
    "camera": camera,
    "usb": usb_camera,
    "picamera": picamera,
    "rtsp": rtsp,
    "http": lambda text, wishes: lambda: open_http(text, wishes, otherwise=open_stream),
    "https": lambda text, wishes: lambda: open_http(text, wishes, otherwise=open_stream),
    "gst": gstreamer,
    "video": lambda text, wishes: lambda: open_video(text),
    "images": lambda text, wishes: lambda: open_images(text),
    "raw": raw_frames,
    "test": lambda text, wishes: lambda: open_pattern(text),
}
#: Kinds that are waited for, and opened again.
LIVE_KINDS = ("camera", "usb", "picamera", "rtsp", "http", "https", "gst")
SCHEMES = ("http", "https", "rtsp", "test")
PREFIXES = ("usb", "picamera", "gst")
#: How long a live source may take to open for the first time; longer than the time limits of all those that have one.
FIRST_OPEN_S = 12.0
PLUGGED_IN = "check that it is connected and that nothing else uses it, then try again"
WISHES, TIMING = Wishes(), Timing()


def open_source(
    text: str,
    wishes: Wishes = WISHES,
    *,
    wait: bool = False,
    changed: threading.Condition | None = None,
    index: int = 0,
    timing: Timing = TIMING,
    ahead: Ahead | None = None,
) -> Source:
    """Open what the text of `--source` stands for; raises SourceError.

    Args:
        wait: open what is live in the background, so that it need not be there yet.
        changed: notified at every change of the source; see `turns`.
        index: its place among the sources of a run.
        ahead: a `Classifier`'s `ahead()`; frames then come prepared for its network, which is done while that runs.
    """
    opening, kind = opening_of(text, wishes), kind_of(text)
    name = PIPELINE if kind == "gst" else redact(text)
    if wait and kind in LIVE_KINDS:
        return LiveSource(opening, timing=timing, changed=changed, index=index, name=name, there=presence(kind, text), ahead=ahead)
    advice = TRY if kind == "gst" else PLUGGED_IN
    capture = open_in_time(opening, name, advice=advice) if kind in LIVE_KINDS else opening()
    if not capture.traits.ends:
        return LiveSource(opening, first=capture, timing=timing, changed=changed, index=index, there=presence(kind, text), ahead=ahead)
    return CaptureSource(capture, changed=changed, index=index, ahead=ahead)


def open_in_time(opening: Opening, name: str, *, within_s: float | None = None, advice: str = PLUGGED_IN) -> Capture:
    """Open a source for the first time; raises what it raises, and SourceError if that takes too long, as a driver's call may for ever.

    A capture that comes too late is released again.
    """
    within_s = FIRST_OPEN_S if within_s is None else within_s
    came: queue.SimpleQueue[Capture | Exception] = queue.SimpleQueue()
    late = threading.Event()

    def attempt() -> None:
        leave_signals_to_main()
        try:
            found: Capture | Exception = opening()
        except Exception as error:  # is raised again where somebody waits for it
            found = error
        came.put(found)
        if late.is_set() and not came.empty():
            _release(came)

    threading.Thread(target=attempt, name=f"{CAPTURE_THREAD}{name}", daemon=True).start()
    until_s = time.monotonic() + within_s
    while (left_s := until_s - time.monotonic()) > 0:
        try:
            found = came.get(timeout=min(left_s, JOIN_S))  # short waits, so that a signal is seen
        except queue.Empty:
            continue
        if isinstance(found, Exception):
            raise found
        return found
    late.set()
    _release(came)
    raise SourceError(f"{name} does not open within {within_s:g} s; {advice}")


def _release(came: queue.SimpleQueue[Capture | Exception]) -> None:
    with suppress(queue.Empty):
        found = came.get_nowait()
        if not isinstance(found, Exception):
            found.release()


def opening_of(text: str, wishes: Wishes = WISHES) -> Opening:
    """Return what opens a source, again and again; raises SourceError at once for a text that no source has."""
    opening = SOURCES[kind_of(text)](text, wishes)
    return (lambda: Oriented(opening(), wishes)) if wishes.turn else opening


def kind_of(text: str) -> str:
    """Return the key of `SOURCES` that the text of a source stands for."""
    prefix, colon, _ = text.partition(":")  # before anything else: a pipeline may hold an address
    if (colon and prefix in PREFIXES) or text == "picamera":
        return prefix
    scheme = split_scheme(text)[0].lower()
    if scheme:
        if scheme not in SCHEMES:
            raise SourceError(
                f"{redact(text)}: there is no source of the kind {scheme}://; known: {_known()}.{close_matches(scheme, SCHEMES)}"
            )
        return scheme
    if re.fullmatch(r"(/dev/video)?[0-9]{1,3}", text):
        return "camera"
    if text == "-":
        return "raw"
    path = Path(text)
    try:
        if (text and path.is_dir()) or path.suffix.lower() in IMAGE_SUFFIXES or (glob.has_magic(text) and not path.exists()):
            return "images"
        found = bool(text) and path.exists()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)  # an OSError's own text would tell all of the name
        raise SourceError(f"the source {redact(text)!r} cannot be read: {why}; known: {_known()}") from None
    if not found:
        there = ", ".join(camera.device for camera in cameras()) or "none"
        raise SourceError(f"the source {redact(text)!r} does not exist; known: {_known()}; cameras found: {there}")
    return "video"


def _known() -> str:
    return (
        "a camera (0, /dev/video0, usb:SERIAL, picamera:0), http://, https://, rtsp://, gst:PIPELINE, a video, a folder or glob of images, "
        "- (raw frames), test://"
    )
