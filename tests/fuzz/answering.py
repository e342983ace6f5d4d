"""A camera that answers what it is told to, and what the client's classes need to be tried without a line."""

from __future__ import annotations

import socket
import threading
from email.message import Message
from typing import NamedTuple


class Refusal(NamedTuple):
    """The part of an answer that `Login.learn` looks at."""

    headers: Message


class Answering:
    """A server that sends the next of `answers` to each request and hangs up; the last one again and again."""

    def __init__(self) -> None:
        self.answers = [b""]
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._run, name="answering camera", daemon=True).start()

    def _run(self) -> None:
        while True:
            line, _ = self._listening.accept()
            with line:
                line.settimeout(5)
                try:
                    self._answer(line)
                except OSError:  # the client has seen enough
                    continue

    def _answer(self, line: socket.socket) -> None:
        asked = b""
        while b"\r\n\r\n" not in asked:
            data = line.recv(4096)
            if not data:
                return
            asked += data
        answers = self.answers
        self.answers = answers[1:] or answers
        line.sendall(answers[0])
        line.shutdown(socket.SHUT_WR)
        while line.recv(4096):
            pass
