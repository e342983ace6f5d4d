"""A client that says exactly what a test wants it to say, byte by byte."""

from __future__ import annotations

import socket
import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

#: No test waits longer for the server.
PATIENCE_S = 20.0


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def connect(address: str, *, tls: ssl.SSLContext | None = None) -> socket.socket:
    """Return a connection to the server of an address such as http://127.0.0.1:8080/."""
    where = urlsplit(address)
    plain = socket.create_connection((where.hostname or "", where.port or 0), timeout=PATIENCE_S)
    return plain if tls is None else tls.wrap_socket(plain, server_hostname=where.hostname)


def say(address: str, data: bytes, *, tls: ssl.SSLContext | None = None) -> Reply:
    """Send some bytes and return what comes until the server closes."""
    with connect(address, tls=tls) as connection:
        connection.sendall(data)
        received = b""
        while chunk := connection.recv(1 << 16):
            received += chunk
    return parsed(received)


def ask(address: str, path: str = "/", *, method: str = "GET", tls: ssl.SSLContext | None = None, **headers: str) -> Reply:
    """Make a request; underscores in the names of headers are dashes."""
    given = {"Host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    return say(address, ("\r\n".join(lines) + "\r\n\r\n").encode(), tls=tls)


def parsed(received: bytes) -> Reply:
    """Take a reply apart."""
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return Reply(int(first.split()[1]), {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}, body)


def read_part(connection: socket.socket, received: bytes = b"") -> tuple[bytes, bytes]:
    """Return the next JPEG of a stream, and what was received after it."""
    end = b"\xff\xd9\r\n--edgedistill-frame\r\n"
    while end not in received:
        chunk = connection.recv(1 << 16)
        assert chunk, "the stream has ended"
        received += chunk
    part, _, rest = received.partition(end)
    return part[part.index(b"\xff\xd8") :] + b"\xff\xd9", rest
