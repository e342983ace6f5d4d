"""Viewers of a live page, in a process of their own: `crowd.py HOST PORT COUNT` reads what they are sent until standard input ends."""

from __future__ import annotations

import os
import selectors
import socket
import sys

ASK = b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n"
#: Viewers are elsewhere; on the machine that is looked at they come after everything else.
NICENESS = 19


def main() -> None:
    """Print a line once all have asked, and in the end how many of them were sent pictures."""
    host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    os.nice(NICENESS)
    waiting = selectors.DefaultSelector()
    waiting.register(sys.stdin, selectors.EVENT_READ)
    for _ in range(count):
        connection = socket.create_connection((host, port), timeout=5)
        connection.sendall(ASK)
        waiting.register(connection, selectors.EVENT_READ)
    print("asked", flush=True)
    begun: dict[object, bool] = {}
    while True:
        for key, _ in waiting.select():
            if key.fileobj is sys.stdin:
                print(sum(begun.values()))
                return
            taken = read(key.fileobj)
            begun.setdefault(key.fileobj, b" 200 " in taken[:20])
            if not taken:
                waiting.unregister(key.fileobj)


def read(connection: socket.socket) -> bytes:
    """Return what has come; nothing once the other side has closed."""
    try:
        return connection.recv(1 << 16)
    except OSError:
        return b""


if __name__ == "__main__":
    main()
