"""The head of a request, taken apart: small, strict, and without any notion of files.

Only what a browser or a monitoring tool sends is understood: GET and HEAD without a body, origin-form paths, HTTP/1.0 and 1.1.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl

#: All of a request's head together, and its first line.
HEAD_BYTES, LINE_BYTES = 8192, 2048
MOST_HEADERS = 64
METHODS = ("GET", "HEAD")
REQUEST_LINE = re.compile(r"([A-Z]{1,16}) (/[\x21-\x7e]*) HTTP/(\d)\.(\d)")
HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):[ \t]*([\x20-\x7e\x80-\xff\t]*?)[ \t]*")
#: Twice, these would make it unclear who is asked or who asks.
ONLY_ONCE = ("host", "authorization", "content-length")


class RequestError(Exception):
    """A request that is answered with an error: its status and a line to read."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class Request(NamedTuple):
    """What is asked for.

    Args:
        path: as it came, without the query; nothing in it is decoded, since it is only ever compared.
        query: the last value of each name.
        headers: by lower-case name; those that came twice joined by a comma.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]


def parse(head: bytes) -> Request:
    """Return the request of a head without its empty line; raises RequestError with 400, 405, 413, 414, 431 or 505."""
    line, *rest = head.decode("latin-1").split("\r\n")
    if len(line) > LINE_BYTES:
        raise RequestError(414, f"expected an address of at most {LINE_BYTES} bytes")
    found = REQUEST_LINE.fullmatch(line)
    if found is None:
        raise RequestError(400, "expected a request such as: GET / HTTP/1.1")
    method, target, major, minor = found.groups()
    if major != "1":
        raise RequestError(505, "expected HTTP/1.1")
    headers = _headers(rest)
    if minor != "0" and "host" not in headers:
        raise RequestError(400, "expected a Host header")
    if method not in METHODS:
        raise RequestError(405, "only GET and HEAD are answered here")
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise RequestError(413, "expected a request without a body")
    path, _, query = target.partition("?")
    return Request(method, path, _query(query), headers)


def _headers(lines: list[str]) -> dict[str, str]:
    if len(lines) > MOST_HEADERS:
        raise RequestError(431, f"expected at most {MOST_HEADERS} headers")
    headers: dict[str, str] = {}
    for line in lines:
        found = HEADER.fullmatch(line)
        if found is None:
            raise RequestError(400, "expected headers such as: Host: localhost")
        name, value = found[1].lower(), found[2]
        if name in headers and name in ONLY_ONCE:
            raise RequestError(400, f"expected one {name} header")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _query(text: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=8))
    except ValueError as error:
        raise RequestError(400, "expected at most 8 fields in the address") from error


def cookies(request: Request) -> dict[str, str]:
    """Return the cookies of a request by name; the first of each name, which is that of the longest path."""
    found: dict[str, str] = {}
    for part in request.headers.get("cookie", "").replace(",", ";").split(";"):
        name, _, value = part.strip().partition("=")
        found.setdefault(name, value)
    return found
