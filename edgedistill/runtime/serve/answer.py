"""Answers as bytes: the status, the headers that keep browsers from doing more than they should, and a body."""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

import msgspec

#: Nothing here may be kept, guessed at, framed, embedded by other sites, or told to them.
SECURITY = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
#: For everything that is no page.
NO_CONTENT_POLICY = "default-src 'none'; frame-ancestors 'none'"
BOUNDARY = "edgedistill-frame"


class Answer(NamedTuple):
    """What is sent back; `headers` go before those that every answer has, and may replace them."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: dict[str, str] = {}


def text(status: int, line: str, **headers: str) -> Answer:
    """Return a line to read; underscores in the names of headers are dashes."""
    return Answer(status, f"{line}\n".encode(), headers={name.replace("_", "-"): value for name, value in headers.items()})


def json(value: object) -> Answer:
    """Return a value as JSON."""
    return Answer(200, msgspec.json.encode(value), "application/json")


def head_of(answer: Answer, *, length: int | None) -> bytes:
    """Return status line and headers; without a length, the connection's end is the body's."""
    headers = {"Content-Security-Policy": NO_CONTENT_POLICY, **SECURITY, "Content-Type": answer.content_type, **answer.headers}
    headers |= {"Connection": "close"} | ({} if length is None else {"Content-Length": str(length)})
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def whole(answer: Answer, *, method: str = "GET") -> bytes:
    """Return an answer as it is sent; HEAD gets no body."""
    head = head_of(answer, length=len(answer.body))
    return head if method == "HEAD" else head + answer.body


#: The beginning of a stream of pictures.
STREAM = Answer(200, b"", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
FIRST_BOUNDARY = f"--{BOUNDARY}\r\n".encode()


def part(jpeg: bytes) -> bytes:
    """Return one picture of a stream; with the next boundary behind it, for without that browsers wait to show it."""
    return f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode() + jpeg + b"\r\n" + FIRST_BOUNDARY
