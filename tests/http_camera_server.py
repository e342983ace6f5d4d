"""An HTTP camera in this process, on 127.0.0.1, that serves MJPEG and snapshots and misbehaves in every way that cameras and networks do.

    with HttpCamera(frames, fps=30) as camera:
        open_source(camera.address)     # the MJPEG stream; camera.snapshot is the address of single pictures
        camera.mode = "corrupt"         # at any time, also within a stream
        camera.outage()                 # stops listening, cuts every connection
        camera.back()                   # listens again on the same port

Attributes may be changed at any time; those that shape an answer's head count from the next request on.
"""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from typing import Literal

import cv2
import numpy as np
from camera_server import PATIENCE_S, CameraServer

Mode = Literal[
    "well",  # every part whole
    "corrupt",  # parts that begin like a JPEG and are none
    "cut",  # parts with half of their JPEG
    "empty",  # parts of no bytes
    "bomb",  # a JPEG of a few hundred bytes that says it is 60,000 x 60,000
    "stall",  # sends nothing more, keeps the connection
    "die",  # half of a part, then the connection is cut
    "drip",  # a byte every `drip_s`
    "short_length",  # Content-Length says half
    "long_length",  # Content-Length says 1,000 bytes more
    "no_length",  # no Content-Length
    "no_headers",  # parts without any header
    "endless_header",  # header lines for ever
    "huge_line",  # one header line that never ends
    "huge_body",  # a part that never ends, said to be of 10 GB
    "web_page",  # an HTML page, whatever was asked for
    "error",  # 503
]
HTML = b"<html><body>Please log in</body></html>"


def jpeg(frame_bgr: np.ndarray, *, quality: int = 90) -> bytes:
    """Return a frame as JPEG."""
    return bytes(cv2.imencode(".jpg", frame_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def bomb(height: int = 60_000, width: int = 60_000) -> bytes:
    """Return a small JPEG whose header says that it is huge."""
    small = jpeg(np.zeros((8, 8, 3), np.uint8))
    at = small.index(b"\xff\xc0") + 5
    return small[:at] + struct.pack(">HH", height, width) + small[at + 4 :]


class HttpCamera(CameraServer):
    """Serves `frames`, over and over, `fps` of them a second; a frame given as bytes is sent as it is.

    Attributes:
        mode: how it behaves now.
        fps: 0 for as fast as the reader takes them.
        loop: whether the frames begin anew; otherwise the stream ends after the last.
        boundary: as the header gives it; `delimiter` as the stream does, by default two dashes before it.
        content_type: of the answer; None for what it is.
        keep_alive: whether snapshots leave the connection open.
        redirect: where every request is sent on to.
        requests: (monotonic seconds, path, headers) of each request; `sent` counts parts.
    """

    def __init__(self, frames: list[np.ndarray | bytes], *, fps: float = 30.0, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self.pictures = [frame if isinstance(frame, bytes) else jpeg(frame) for frame in frames]
        self.fps, self.drip_s, self.tls = fps, 0.05, tls
        self.mode: Mode = "well"
        self.boundary, self.delimiter = "frame", "--frame"
        self.content_type: str | None = None
        self.keep_alive, self.loop, self.chunked = True, True, False
        self.redirect: str | None = None
        self.requests: list[tuple[float, str, dict[str, str]]] = []
        self.sent = self._nonces = 0

    @property
    def origin(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """The address of the stream."""
        return f"{self.origin}/stream.mjpg"

    @property
    def snapshot(self) -> str:
        """The address of single pictures."""
        return f"{self.origin}/snapshot.jpg"

    def serve(self, connection: socket.socket, off: threading.Event) -> None:
        try:
            if self.tls is not None:
                connection.settimeout(PATIENCE_S)
                connection = self.tls.wrap_socket(connection, server_side=True)
                connection.settimeout(None)
            self.joined(connection)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not off.is_set() and self._answer(connection, off):
                pass
        except OSError:  # the reader has gone
            pass
        finally:
            self.left(connection)

    def _answer(self, connection: socket.socket, off: threading.Event) -> bool:
        """Answer one request; return whether the connection may be used for another."""
        request = _read_request(connection)
        if request is None:
            return False
        path, headers = request
        self.requests.append((time.monotonic(), path, headers))
        if self.redirect is not None:
            connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: {self.redirect}\r\nContent-Length: 0\r\n\r\n".encode())
        elif self.auth is not None and not self._allowed(path, headers):
            connection.sendall(f"HTTP/1.1 401 No\r\nWWW-Authenticate: {self._challenge()}\r\nContent-Length: 0\r\n\r\n".encode())
        elif self.mode == "error":
            connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        elif self.mode == "web_page":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(HTML), HTML))
        elif self.mode == "stall":
            off.wait()
        elif self.mode in ("endless_header", "huge_line"):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            self._flood(connection, off, header=True)
        elif path.startswith("/snapshot"):
            return self._send_snapshot(connection, off)
        else:
            self._send_stream(connection, off)
        return False

    def _send_snapshot(self, connection: socket.socket, off: threading.Event) -> bool:
        picture = self._picture(self.sent)
        kind = self.content_type or ("image/png" if picture.startswith(b"\x89PNG") else "image/jpeg")
        length, mode = self._length(len(picture)), self.mode
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n"
        head += f"Content-Length: {length}\r\n" if length is not None else ""
        keep = self.keep_alive and length == len(picture)
        head += "\r\n" if keep else "Connection: close\r\n\r\n"
        connection.sendall(head.encode())
        self._send_picture(connection, picture, off)
        self.sent += 1
        return keep and mode != "die"

    def _send_stream(self, connection: socket.socket, off: threading.Event) -> None:
        kind = self.content_type or f"multipart/x-mixed-replace; boundary={self.boundary}"
        chunked = "Transfer-Encoding: chunked\r\n" if self.chunked else ""
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{chunked}\r\n".encode())
        due_s = time.monotonic()
        for number in self._numbers():
            if off.wait(max(0.0, due_s - time.monotonic())):
                return
            due_s = max(due_s + (1 / self.fps if self.fps else 0), time.monotonic() - 1)
            self._send_part(connection, self._picture(number), off)
            self.sent += 1

    def _send_part(self, connection: socket.socket, picture: bytes, off: threading.Event) -> None:
        if self.mode == "stall":
            off.wait()
        length = self._length(len(picture))
        lines = [self.delimiter, "Content-Type: image/jpeg", f"Content-Length: {length}" if length is not None else ""]
        head = "\r\n".join(line for line in lines[: 1 if self.mode == "no_headers" else 3] if line) + "\r\n\r\n"
        if self.mode in ("endless_header", "huge_line"):
            connection.sendall(head[:-2].encode())
            self._flood(connection, off, header=True)
        elif self.chunked:
            part = head.encode() + picture + b"\r\n"
            connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        else:
            connection.sendall(head.encode())
            self._send_picture(connection, picture, off)
            connection.sendall(b"\r\n")

    def _send_picture(self, connection: socket.socket, picture: bytes, off: threading.Event) -> None:
        if self.mode == "huge_body":
            self._flood(connection, off)
        elif self.mode == "drip":
            for byte in picture:
                if self.mode != "drip" or off.wait(self.drip_s):
                    raise ConnectionAbortedError
                connection.sendall(bytes([byte]))
        elif self.mode == "die":
            connection.sendall(picture[: len(picture) // 2])
            raise ConnectionAbortedError
        else:
            connection.sendall(picture)

    def _flood(self, connection: socket.socket, off: threading.Event, *, header: bool = False) -> None:
        block = b"X-Header: and on\r\n" * 1000 if header and self.mode == "endless_header" else b"x" * 65536
        while not off.is_set():
            connection.sendall(block)

    def _numbers(self) -> Iterator[int]:
        number = 0
        while self.loop or number < len(self.pictures):
            yield number
            number += 1

    def _picture(self, number: int) -> bytes:
        picture = self.pictures[number % len(self.pictures)]
        if self.mode == "corrupt":
            return b"\xff\xd8\xff" + bytes(range(1, 200)) * 4 + b"\xff\xd9"
        if self.mode == "cut":
            return picture[: len(picture) // 2]
        return {"empty": b"", "bomb": bomb()}.get(self.mode, picture)

    def _length(self, real: int) -> int | None:
        if self.mode in ("no_length", "no_headers"):
            return None
        return {"short_length": real // 2, "long_length": real + 1000, "huge_body": 10 * 10**9}.get(self.mode, real)

    def _challenge(self) -> str:
        if self.auth == "basic":
            return f'Basic realm="{self.realm}"'
        self._nonces += 1
        return f'Digest realm="{self.realm}", qop="auth", nonce="nonce{self._nonces}", opaque="o", algorithm=MD5'

    def forget_nonce(self) -> None:
        """Let no nonce given so far be good any more, as cameras do after a while."""
        self._nonces += 1

    def _allowed(self, path: str, headers: dict[str, str]) -> bool:
        given = headers.get("authorization", "")
        if self.auth == "basic":
            return given == "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        fields = dict(re.findall(r'(\w+)="?([^",]+)"?', given.removeprefix("Digest ")))
        if fields.get("nonce") != f"nonce{self._nonces}" or fields.get("uri") != path:
            return False
        first, second = _md5(f"{self.user}:{self.realm}:{self.password}"), _md5(f"GET:{path}")
        middle = ":".join(fields.get(key, "") for key in ("nonce", "nc", "cnonce", "qop"))
        return fields.get("response") == _md5(f"{first}:{middle}:{second}")


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _read_request(connection: socket.socket) -> tuple[str, dict[str, str]] | None:
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(65536)
        if not received:
            return None
        data += received
    first, *lines = data.decode("latin-1").split("\r\n")
    return first.split(" ")[1], {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
