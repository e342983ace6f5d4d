"""The source `gst:PIPELINE`: whatever GStreamer can bring, where OpenCV was built with it (Debian's python3-opencv is)."""

from __future__ import annotations

import re

import cv2

from edgedistill.errors import SourceError
from edgedistill.runtime.cameras import opened
from edgedistill.runtime.frames import Opening, Traits
from edgedistill.runtime.opencv import OpenCvCapture, quiet
from edgedistill.runtime.wishes import Wishes

#: What messages call a pipeline, which may hold a password.
NAME = "gst"
#: What to do about a pipeline that does not begin: OpenCV waits for ever for one of which a part is missing.
TRY = "an element that is not installed or a wrong property does that: try it with gst-launch-1.0 and fakesink at its end"
#: What OpenCV takes frames from: the newest one only.
SINK = "appsink drop=true max-buffers=1 sync=false"


def gstreamer(text: str, wishes: Wishes) -> Opening:
    """Return how to open a pipeline; raises SourceError where this OpenCV has no GStreamer."""
    pipeline = text.partition(":")[2].strip()
    if not pipeline:
        raise SourceError("gst: needs a pipeline, such as gst:libcamerasrc ! videoconvert")
    if not re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()):
        raise SourceError(
            "gst: needs an OpenCV with GStreamer, which this one is not: use Debian's python3-opencv in a virtual environment with "
            "--system-site-packages, as devices/rpi5/setup.sh does"
        )
    return lambda: open_pipeline(pipeline)


def with_sink(pipeline: str) -> str:
    """Return a pipeline that ends where OpenCV takes BGR frames."""
    return pipeline if "appsink" in pipeline else f"{pipeline} ! videoconvert ! video/x-raw,format=BGR ! {SINK}"


def open_pipeline(pipeline: str) -> OpenCvCapture:
    """Open a pipeline; raises SourceError, without the pipeline."""
    quiet()
    capture = opened(NAME, lambda: cv2.VideoCapture(with_sink(pipeline), cv2.CAP_GSTREAMER))
    if not capture.isOpened():
        raise SourceError(f"gst: the pipeline does not start; {TRY}")
    fps = capture.get(cv2.CAP_PROP_FPS)
    return OpenCvCapture(capture, Traits(NAME, live=True, ends=False, fps=fps if 0 < fps <= 240 else None))
