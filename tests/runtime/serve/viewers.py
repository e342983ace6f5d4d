"""Many viewers in a process of their own: each loads the page, then does what the page does; every 20th shows the stream alone.

Reads lines and prints what was seen until then: `go` makes all of them look, `stop` none, any other word changes nothing.
Takes a low priority, for it stands for other machines.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from urllib.parse import urlsplit


class Viewers:
    def __init__(self, address: str, count: int) -> None:
        where = urlsplit(address)
        self.host, self.port, self.count = where.hostname, where.port, count
        self.seen: Counter[str] = Counter()

    async def run(self) -> None:
        """Follow the lines on stdin until there are no more."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        looking: list[asyncio.Task[None]] = []
        while line := await reader.readline():
            if line in (b"go\n", b"stop\n"):
                for task in looking:
                    task.cancel()
                await asyncio.gather(*looking, return_exceptions=True)
                looking = [asyncio.create_task(self.look(number)) for number in range(self.count)] if line == b"go\n" else []
            print(json.dumps(self.seen), flush=True)

    async def look(self, number: int) -> None:
        await asyncio.sleep(0.5 * number / self.count)
        if number % 20 == 0:  # another dashboard, which shows nothing but the picture
            await self.stream()
        await self.fetch("/")
        streaming = asyncio.create_task(self.stream())
        try:
            while True:
                await self.fetch("/state.json?history")
                if streaming.done():
                    await self.fetch("/snapshot.jpg")
                await asyncio.sleep(1.0)
        finally:
            streaming.cancel()

    async def stream(self) -> None:
        """Look at the stream as long as it lasts."""
        try:
            reader, writer = await self.asked("/stream.mjpg")
            try:
                self.seen[f"stream {(await reader.readline()).split()[1].decode()}"] += 1
                while data := await reader.read(1 << 16):
                    self.seen["stream bytes"] += len(data)
            finally:
                writer.transport.abort()
        except (OSError, IndexError):
            self.seen["turned away"] += 1

    async def fetch(self, path: str) -> None:
        try:
            reader, writer = await self.asked(path)
            try:
                reply = await reader.read()
                self.seen[f"{path} {reply.split()[1].decode()}"] += 1
            finally:
                writer.transport.abort()
        except (OSError, IndexError):
            self.seen["turned away"] += 1

    async def asked(self, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return reader, writer


if __name__ == "__main__":
    os.nice(19)
    asyncio.run(Viewers(sys.argv[1], int(sys.argv[2])).run())
