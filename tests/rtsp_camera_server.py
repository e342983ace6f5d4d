"""An RTSP camera in this process, on 127.0.0.1: JPEG or H.264 by RTP in the RTSP connection itself, as cameras send when asked for TCP.

    with RtspCamera(frames, fps=30) as camera:
        open_source(camera.address)
        camera.mode = "silent"          # at any time, also within a stream
        camera.outage()                 # stops listening, cuts every connection
        camera.back()                   # listens again on the same port
        camera.show(others)             # other frames, of another size as well

H264(clip) in place of the frames is sent as H.264.

Attributes may be changed at any time; those that shape an answer count from the next request on.
"""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import struct
import threading
import time
from typing import Literal, NamedTuple

import numpy as np
from camera_server import PATIENCE_S, CameraServer, cut
from rtp_video import CLOCK_HZ, H264, Jpegs, Video, packets

Mode = Literal[
    "well",
    "silent",  # sends no frame, answers and keeps the connection
    "deaf",  # answers no request either
    "die",  # half of a frame, then the connection is cut
    "corrupt",  # frames whose picture data are noise
    "broken",  # frames that no decoder takes
    "nonsense",  # bytes that are no RTP at all
    "busy",  # 503 to every request
    "missing",  # 404 to what the stream is asked for
    "udp_only",  # 461 to who asks for TCP
]
REASONS = {200: "OK", 401: "Unauthorized", 404: "Not Found", 454: "Session Not Found", 461: "Unsupported Transport", 503: "Busy"}


class Request(NamedTuple):
    """What a reader asked, and when (monotonic); `headers` in lower case."""

    time_s: float
    method: str
    target: str
    headers: dict[str, str]


class RtspCamera(CameraServer):
    """Serves `frames`, over and over, `fps` of them a second, to every reader.

    Attributes:
        mode: how it behaves now.
        requests: of all readers; `sent` counts frames.
    """

    def __init__(self, frames: list[np.ndarray] | H264, *, fps: float = 30.0) -> None:
        super().__init__()
        self.fps = fps
        self.mode: Mode = "well"
        self.requests: list[Request] = []
        self.sent = 0
        self.show(frames)

    @property
    def address(self) -> str:
        """The address of the stream."""
        return f"rtsp://127.0.0.1:{self.port}/stream"

    def show(self, frames: list[np.ndarray] | H264) -> None:
        """Serve other frames from the next one on."""
        self.video: Video = Jpegs(frames) if isinstance(frames, list) else frames

    def serve(self, connection: socket.socket, off: threading.Event) -> None:
        Reader(self, connection, off).serve()

    def allowed(self, request: Request) -> bool:
        """Return whether a request carries the user and password, if they are asked for."""
        given = request.headers.get("authorization", "")
        if self.auth is None:
            return True
        if self.auth == "basic":
            return given == "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        fields = dict(re.findall(r'(\w+)="?([^",]+)"?', given.removeprefix("Digest ")))
        first, second = _md5(f"{self.user}:{self.realm}:{self.password}"), _md5(f"{request.method}:{fields.get('uri', '')}")
        return fields.get("response") == _md5(f"{first}:nonce:{second}")

    def challenge(self) -> str:
        """Return what an answer without permission asks for."""
        return f'Basic realm="{self.realm}"' if self.auth == "basic" else f'Digest realm="{self.realm}", nonce="nonce"'


class Reader:
    """One reader's connection: its requests are answered by one thread, frames are sent by another one after PLAY."""

    def __init__(self, camera: RtspCamera, connection: socket.socket, off: threading.Event) -> None:
        self._camera, self._connection, self._off = camera, connection, off
        self._gone = threading.Event()
        self._sending = threading.Lock()
        self._data = b""
        self._channel = 0
        self._sender: threading.Thread | None = None

    def serve(self) -> None:
        """Answer requests until the connection ends."""
        self._camera.joined(self._connection)
        try:
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not self._off.is_set() and (request := self._next_request()) is not None:
                self._camera.requests.append(request)
                if self._camera.mode != "deaf":
                    self._answer(request)
        except OSError:  # the reader has gone
            pass
        finally:
            self._gone.set()
            self._camera.left(self._connection)
            if self._sender is not None:
                self._sender.join(PATIENCE_S)

    def _next_request(self) -> Request | None:
        """Return the next request; reports on what was received, which come between, are passed over."""
        while True:
            if self._data[:1] == b"$" and len(self._data) >= 4:
                end = 4 + int.from_bytes(self._data[2:4], "big")
                if len(self._data) >= end:
                    self._data = self._data[end:]
                    continue
            elif self._data[:1] != b"$" and b"\r\n\r\n" in self._data:
                head, _, self._data = self._data.partition(b"\r\n\r\n")
                first, *lines = head.decode("latin-1").split("\r\n")
                if first.startswith("RTSP/"):  # an answer to what looked like a request
                    continue
                method, target, _ = first.split(" ")
                headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
                return Request(time.monotonic(), method, target, headers)
            received = self._connection.recv(65536)
            if not received:
                return None
            self._data += received

    def _answer(self, request: Request) -> None:
        status, headers, body = self._reply(request)
        lines = [f"RTSP/1.0 {status} {REASONS[status]}", f"CSeq: {request.headers.get('cseq', '0')}", *headers]
        lines += [f"Content-Length: {len(body)}"] if body else []
        self._send("\r\n".join([*lines, "", body]).encode())
        if status == 200 and request.method == "PLAY" and self._sender is None:
            self._sender = threading.Thread(target=self._send_frames, name="rtsp camera sender", daemon=True)
            self._sender.start()
        elif request.method == "TEARDOWN":
            raise ConnectionAbortedError

    def _reply(self, request: Request) -> tuple[int, list[str], str]:
        """Return status, headers and body of an answer."""
        mode, session = self._camera.mode, ["Session: 12345678;timeout=60"]
        if mode == "busy":
            return 503, [], ""
        if request.method == "OPTIONS":
            return 200, ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"], ""
        if not self._camera.allowed(request):
            return 401, [f"WWW-Authenticate: {self._camera.challenge()}"], ""
        if mode == "missing":
            return 404, [], ""
        if request.method == "DESCRIBE":
            return 200, ["Content-Type: application/sdp", f"Content-Base: {request.target}/"], self._description()
        if request.method == "SETUP":
            asked = request.headers.get("transport", "")
            channels = re.search(r"RTP/AVP/TCP;.*interleaved=(\d+)-(\d+)", asked)
            if mode == "udp_only" or channels is None:
                return 461, [], ""
            self._channel = int(channels[1])
            return 200, [f"Transport: RTP/AVP/TCP;unicast;interleaved={channels[1]}-{channels[2]}", *session], ""
        return 200, session, ""

    def _description(self) -> str:
        lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=camera", "c=IN IP4 0.0.0.0", "t=0 0", "a=control:*"]
        video = self._camera.video
        lines += [f"m=video 0 RTP/AVP {video.payload_type}", *video.description(), "a=control:track1"]
        return "\r\n".join([*lines, f"a=framerate:{self._camera.fps:g}", ""])

    def _send_frames(self) -> None:
        began_s = due_s = time.monotonic()
        sequence = number = 0
        try:
            while not (self._off.is_set() or self._gone.wait(max(0.0, due_s - time.monotonic()))):
                due_s = max(due_s + 1 / self._camera.fps, time.monotonic() - 1)
                if self._camera.mode in ("silent", "deaf"):
                    continue
                timestamp = round((time.monotonic() - began_s) * CLOCK_HZ)
                sequence += self._send_frame(number, sequence, timestamp)
                number += 1
        except OSError:  # the reader has gone
            pass

    def _send_frame(self, number: int, sequence: int, timestamp: int) -> int:
        """Send a frame and return of how many packets it is."""
        camera = self._camera
        found = list(packets(camera.video, number, mode=camera.mode, sequence=sequence, timestamp=timestamp))
        data = b"".join(b"$" + struct.pack(">BH", self._channel, len(packet)) + packet for packet in found)
        if self._camera.mode == "die":
            self._send(data[: len(data) // 2])
            cut(self._connection)
            raise ConnectionAbortedError
        self._send(data if self._camera.mode != "nonsense" else bytes(range(256)) * 40)
        self._camera.sent += 1
        return len(found)

    def _send(self, data: bytes) -> None:
        with self._sending:
            self._connection.sendall(data)


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
