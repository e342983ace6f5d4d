"""Heads of requests: what is understood, what is refused with which status, and that nothing else can happen."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgedistill.runtime.serve.request import Request, RequestError, cookies, parse

HOST = b"\r\nHost: localhost"


def test_a_request_is_taken_apart() -> None:
    found = parse(b"GET /stream.mjpg?source=1&at=2&at=3&empty= HTTP/1.1\r\nHost: pi:8080\r\nX-One:  a b \r\nx-one: c")
    assert found == Request("GET", "/stream.mjpg", {"source": "1", "at": "3", "empty": ""}, {"host": "pi:8080", "x-one": "a b, c"})


@pytest.mark.parametrize(
    "head",
    [b"GET / HTTP/1.0", b"HEAD / HTTP/1.1" + HOST, b"GET /%2e%2e/x HTTP/1.1" + HOST, b"GET / HTTP/1.1" + HOST + b"\r\nContent-Length: 0"],
)
def test_what_is_understood(head: bytes) -> None:
    assert parse(head).path.startswith("/")


def test_paths_are_never_decoded() -> None:
    assert parse(b"GET /a/../%2e%2e%2fetc HTTP/1.0").path == "/a/../%2e%2e%2fetc"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"", 400),
        (b"GET", 400),
        (b"GET /", 400),
        (b"get / HTTP/1.1" + HOST, 400),
        (b"GET http://localhost/ HTTP/1.1" + HOST, 400),
        (b"GET * HTTP/1.1" + HOST, 400),
        (b"GET / HTTP/1.1 x" + HOST, 400),
        (b"GET  / HTTP/1.1" + HOST, 400),
        (b"GET /\x00 HTTP/1.1" + HOST, 400),
        (b"GET /\xff HTTP/1.1" + HOST, 400),
        (b"GET / HTTP/1.1", 400),
        (b"GET / HTTP/1.1" + HOST + HOST, 400),
        (b"GET / HTTP/1.1" + HOST + b"\r\nAuthorization: a\r\nauthorization: b", 400),
        (b"GET / HTTP/1.1" + HOST + b"\r\n folded", 400),
        (b"GET / HTTP/1.1" + HOST + b"\r\nX : y", 400),
        (b"GET / HTTP/1.1" + HOST + b"\r\nX: a\rb", 400),
        (b"GET / HTTP/1.1" + HOST + b"\r\nX: a\x00", 400),
        (b"GET / HTTP/1.1\nHost: localhost", 400),
        (b"GET /?a&b&c&d&e&f&g&h&i HTTP/1.1" + HOST, 400),
        (b"POST / HTTP/1.1" + HOST, 405),
        (b"DELETE /state.json HTTP/1.1" + HOST, 405),
        (b"CONNECT / HTTP/1.1" + HOST, 405),
        (b"GET / HTTP/1.1" + HOST + b"\r\nContent-Length: 10000000000", 413),
        (b"GET / HTTP/1.1" + HOST + b"\r\nContent-Length: x", 413),
        (b"GET / HTTP/1.1" + HOST + b"\r\nTransfer-Encoding: chunked", 413),
        (b"GET /" + b"a" * 3000 + b" HTTP/1.1" + HOST, 414),
        (b"GET / HTTP/1.1" + HOST + b"\r\nX: y" * 70, 431),
        (b"GET / HTTP/2.0" + HOST, 505),
        (b"GET / HTTP/0.9", 505),
    ],
)
def test_what_is_refused(head: bytes, status: int) -> None:
    with pytest.raises(RequestError) as caught:
        parse(head)
    assert caught.value.status == status


def outcome(head: bytes) -> int:
    """Return 200 for a request that is understood, or what it is refused with."""
    try:
        parse(head)
    except RequestError as error:
        return error.status
    return 200


@given(st.binary(max_size=300))
@example(b"GET /?%zz=%ff&a=%00 HTTP/1.0")
def test_any_bytes_give_a_request_or_a_status(head: bytes) -> None:
    assert outcome(head) == 200 or 400 <= outcome(head) <= 505


@given(st.text(max_size=80))
def test_any_query_is_read_or_refused(text: str) -> None:
    assert outcome(f"GET /?{text} HTTP/1.0".encode("utf-8", "surrogatepass")) in (200, 400, 414)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("a=1", {"a": "1"}),
        ("a=1; b=2", {"a": "1", "b": "2"}),
        ("a=1; a=2", {"a": "1"}),
        ("a=1, b=2", {"a": "1", "b": "2"}),
        ("a=x=y", {"a": "x=y"}),
        ("", {"": ""}),
        (";;", {"": ""}),
    ],
)
def test_cookies(header: str, expected: dict[str, str]) -> None:
    assert cookies(Request("GET", "/", {}, {"cookie": header})) == expected
