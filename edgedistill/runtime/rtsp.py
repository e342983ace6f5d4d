"""Cameras over rtsp://: asked first by a request of our own, so that what is wrong is told at once, then read by OpenCV's FFmpeg.

FFmpeg opens one stream at a time in a process, however long that takes: a camera that does not answer must not get that far.
"""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from urllib.parse import quote

import cv2

from edgedistill import __version__
from edgedistill.errors import SourceError
from edgedistill.runtime.address import Address
from edgedistill.runtime.cameras import READ_TIMEOUT_MS, check_picture, nominal_fps, opened
from edgedistill.runtime.frames import Opening, Traits
from edgedistill.runtime.http_answer import CONNECT_S, time_limit
from edgedistill.runtime.opencv import StreamCapture, quiet
from edgedistill.runtime.wishes import Wishes

#: How long a camera may take to answer, and then FFmpeg to find its video; with connecting, less than a live source waits.
ANSWER_S, OPEN_TIMEOUT_MS = 3.0, 4_000
#: Over TCP, so that no packet is lost; pictures only; and no wait for twenty frames to guess their rate by, which is seconds.
#: Other kinds of addresses pay no attention to the first two. What the user has set stays.
FFMPEG_OPTIONS = "rtsp_transport;tcp|allowed_media_types;video|fpsprobesize;0"
#: Each thread that decodes keeps a frame back: one for every core would be 130 ms on four of them at 30 frames a second.
DECODE_THREADS = 2
MOST_ANSWER_BYTES = 4096
#: What no other request would change.
FINAL = (404, 503)


def rtsp(text: str, wishes: Wishes) -> Opening:
    """Return how to open an rtsp:// camera; raises SourceError for a text that is no address."""
    address = Address.parse(text)
    return lambda: open_rtsp(address)


def open_rtsp(address: Address) -> StreamCapture:
    """Open a camera; raises SourceError, without credentials."""
    status = asked(address)
    if (status == 401 and address.user is None) or status in FINAL:
        raise SourceError(f"{address.name} {_refusal(status, address)}")
    quiet()
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", FFMPEG_OPTIONS)
    settings = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS]
    if hasattr(cv2, "CAP_PROP_N_THREADS"):  # OpenCV 4.7 and later
        settings += [cv2.CAP_PROP_N_THREADS, DECODE_THREADS]
    capture = opened(address.name, lambda: cv2.VideoCapture(_with_login(address), cv2.CAP_FFMPEG, settings))
    if not capture.isOpened():
        raise SourceError(f"{address.name} {_refusal(status, address)}")
    check_picture(capture, address.name)
    return StreamCapture(capture, Traits(address.name, live=True, ends=False, fps=nominal_fps(capture)))


def asked(address: Address) -> int:
    """Ask a camera to describe its stream, without credentials, and return the status; raises SourceError if it gives no answer."""
    try:
        line = socket.create_connection((address.host.strip("[]"), address.port), timeout=CONNECT_S)
    except (OSError, UnicodeError) as error:
        reason = "it took too long" if isinstance(error, TimeoutError) else str(error)
        raise SourceError(f"{address.name} does not answer ({reason[:200]}); check the address and the network") from None
    with line:
        answer = _first_line(line, address)
    found = re.match(rb"RTSP/[0-9.]+ ([0-9]{3})\b", answer)
    if found is None:
        what = "answers, but not as an RTSP camera does" if answer else "takes the connection and answers nothing"
        raise SourceError(f"{address.name} {what}; check the port, which mostly is 554, and that the camera is well")
    return int(found[1])


def _first_line(line: socket.socket, address: Address) -> bytes:
    """Return the first line of the answer, and perhaps more; what has come of it if the connection breaks or time runs out."""
    request = ["CSeq: 1", f"User-Agent: edgedistill/{__version__}", "Accept: application/sdp", "", ""]
    answer = b""
    with time_limit(line, ANSWER_S), suppress(OSError):
        line.sendall("\r\n".join([f"DESCRIBE {_place(address)} RTSP/1.0", *request]).encode())
        while b"\n" not in answer and len(answer) < MOST_ANSWER_BYTES and (received := line.recv(MOST_ANSWER_BYTES)):
            answer += received
    return answer


def _refusal(status: int, address: Address) -> str:
    no_video = "gives no video that OpenCV can read over TCP; look in its settings for H.264 and for RTSP over TCP"
    if status == 401 and address.user is None:
        return "needs a user and password: rtsp://USER:PASSWORD@HOST/… (status 401)"
    if status == 401:
        return f"refuses the user or the password, or {no_video}"
    if status == 200:
        return no_video
    return f"answers with status {status}; check the path of the address, and that the camera is well"


def _place(address: Address) -> str:
    return f"rtsp://{address.host}:{address.port}{address.target}"


def _with_login(address: Address) -> str:
    """Return the address for FFmpeg, which wants what is special in a user or password percent-encoded."""
    if address.user is None:
        return _place(address)
    login = ":".join(quote(part, safe="", errors="surrogateescape") for part in (address.user, address.password))
    return _place(address).replace("://", f"://{login}@", 1)
