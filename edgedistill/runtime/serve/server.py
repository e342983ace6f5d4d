"""The server: one thread and its event loop, however many come.

It limits what anybody can take: connections, time and bytes of a request, streams, and its own share of the processor, so that
visitors wait rather than the camera loop; but each is served in the end, those of streams with fewer pictures. It sends a stream's
viewer the newest picture whenever the last one has gone out.

Its priority is the loop's own: what runs here is Python, and a thread of low priority that is put off while it holds the
interpreter's lock would put off the loop with it (on a busy machine that was up to a tenth of the time).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
import time
from collections import Counter
from contextlib import suppress

from edgedistill.runtime.frames import leave_signals_to_main
from edgedistill.runtime.serve import page
from edgedistill.runtime.serve.access import Access, given_token, near
from edgedistill.runtime.serve.answer import FIRST_BOUNDARY, STREAM, Answer, head_of, part, text, whole
from edgedistill.runtime.serve.request import HEAD_BYTES, Request, RequestError, parse
from edgedistill.runtime.serve.routes import Routes

log = logging.getLogger("edgedistill.runtime")

MOST_CONNECTIONS, MOST_OF_ONE_ADDRESS, MOST_STREAMS = 256, 128, 8
#: How long a client may take for its request, for the handshake before it, and to take what it asked for.
REQUEST_S, HANDSHAKE_S, SEND_S = 5.0, 5.0, 10.0
#: What a client still sends after it was refused is taken for so long and so far, or it would not see why.
LINGER_S, LINGER_BYTES = 1.0, 1 << 18
#: So much later a wrong token is told.
WRONG_TOKEN_S = 0.5
#: What the kernel holds of a stream for a slow viewer.
SEND_BUFFER = 128 * 1024
#: Share of one core that may be used, and how much may be saved up or owed.
CPU_SHARE, CPU_BURST_S = 0.010, 0.05
#: Whoever waits for that share waits no longer than this for the next visitor to be let in, and for a stream's next picture.
LET_IN_S, PICTURE_S = 0.1, 1.0
BUSY = whole(text(503, "too many visitors; try again", Retry_After="5"))


class Budget:
    """Keeps the calling thread to a share of a core: while it is over that, new work waits."""

    def __init__(self) -> None:
        self._left_s, self._wall_s, self._cpu_s = CPU_BURST_S, time.monotonic(), time.thread_time()

    def wait_s(self, at_most_s: float) -> float:
        """Return how long to wait before taking on more work."""
        wall_s, cpu_s = time.monotonic(), time.thread_time()
        left_s = self._left_s + (wall_s - self._wall_s) * CPU_SHARE - (cpu_s - self._cpu_s)
        self._left_s = min(CPU_BURST_S, max(-CPU_BURST_S, left_s))
        self._wall_s, self._cpu_s = wall_s, cpu_s
        return min(at_most_s, max(0.0, -self._left_s / CPU_SHARE))


class Server:
    """Serves on a listening socket from `start` to `close`, in a thread of its own."""

    def __init__(self, listening: socket.socket, routes: Routes, *, access: Access, tls: ssl.SSLContext | None) -> None:
        self._listening, self._routes, self._access, self._tls = listening, routes, access, tls
        self._connections: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._streams = 0
        self._thread = threading.Thread(target=self._run, name="live page", daemon=True)
        self._started = threading.Event()

    def start(self) -> None:
        """Begin to serve; what comes before is kept waiting by the socket."""
        self._thread.start()
        self._started.wait()

    def close(self) -> None:
        """End all connections, and wait a moment for the thread."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(1.0)
        self._listening.close()

    def _run(self) -> None:
        leave_signals_to_main()
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop, self._over, self._budget = asyncio.get_running_loop(), asyncio.Event(), Budget()
        self._loop.set_exception_handler(lambda loop, context: log.debug("live page: %s", context))
        accepting, sampling = asyncio.create_task(self._accept()), asyncio.create_task(self._take_points())
        self._started.set()
        await self._over.wait()
        self._routes.close()
        for task in (accepting, sampling, *self._tasks):
            task.cancel()

    async def _take_points(self) -> None:
        while True:
            self._routes.take_point()
            await asyncio.sleep(1.0)

    async def _accept(self) -> None:
        while True:
            await asyncio.sleep(self._budget.wait_s(LET_IN_S))
            await readable(self._listening)
            try:
                connection, peer = self._listening.accept()  # not awaited: a cancelled wait would lose the connection
                connection.setblocking(False)
            except OSError as error:  # no more file descriptors, or a client that has gone again
                log.debug("live page: %s", error)
                await asyncio.sleep(0.1)
                continue
            address = near(peer[0])
            if self._connections.total() >= MOST_CONNECTIONS or self._connections[address] >= MOST_OF_ONE_ADDRESS:
                self._turn_away(connection)
                continue
            self._connections[address] += 1
            task = asyncio.create_task(self._connection(connection, address))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _, connection=connection: connection.close())  # type: ignore[misc]  # also if it never began

    def _turn_away(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            if self._tls is None:
                connection.send(BUSY)

    async def _connection(self, connection: socket.socket, address: str) -> None:
        writer = None
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            reader, writer = await open_streams(connection, self._tls)
            await self._serve(reader, writer, address)
        except (OSError, EOFError) as error:  # the client has gone, is too slow, or does not speak TLS
            log.debug("live page: %s left: %s", address, error or type(error).__name__)
        finally:
            if writer is not None:
                writer.transport.abort()
            self._connections -= Counter([address])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
        request = None
        try:
            request = parse(await read_head(reader))
            self._access.check(request, address)
            if request.path == "/stream.mjpg":
                await self._stream(request, reader, writer)
                return
            answer = self._entered() if request.path == "/" and "token" in request.query else await self._routes.answer(request)
        except RequestError as refusal:
            answer = await refused(refusal, request)
        except (OSError, EOFError):
            raise
        except Exception:  # a fault in one answer must not end the others
            log.exception("live page: %s could not be answered", request.path if request else "a request")
            answer = text(500, "this failed; see the log")
        await send(writer, whole(answer, method=request.method if request else "GET"))
        await finish(reader, writer, linger=request is None)

    def _entered(self) -> Answer:
        """Keep the token in a cookie, and out of the address."""
        return Answer(303, b"", headers={"Location": "/", "Set-Cookie": self._access.cookie()})

    async def _stream(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        preview = self._routes.preview(request)
        if self._streams >= MOST_STREAMS:
            raise RequestError(503, "too many viewers; /snapshot.jpg gives single pictures")
        self._streams += 1
        try:
            await send(writer, head_of(STREAM, length=None) + (FIRST_BOUNDARY if request.method == "GET" else b""))
            number = 0
            while request.method == "GET" and not reader.at_eof():
                await asyncio.sleep(self._budget.wait_s(PICTURE_S))
                picture = await preview.newer(number, 1.0)
                if picture is not None:
                    await send(writer, part(picture.jpeg))
                    number = picture.number
        finally:
            self._streams -= 1


async def readable(listening: socket.socket) -> None:
    """Wait until somebody wants to connect."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(listening, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(listening)


async def open_streams(connection: socket.socket, tls: ssl.SSLContext | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return the two directions of a connection, after the handshake if there is one; at most one answer is ever buffered."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(limit=HEAD_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    timeouts = {} if tls is None else {"ssl_handshake_timeout": HANDSHAKE_S, "ssl_shutdown_timeout": LINGER_S}
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=tls, **timeouts)
    transport.set_write_buffer_limits(high=1, low=0)  # with 0, asyncio's TLS would wait for ever
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """Return the head of a request without its empty line; raises RequestError with 408, 414 or 431, EOFError if there is none."""
    head = b""
    try:
        async with asyncio.timeout(REQUEST_S):
            while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
                head += line
                if len(head) > HEAD_BYTES:
                    raise RequestError(431, f"expected headers of at most {HEAD_BYTES} bytes")
    except asyncio.LimitOverrunError as error:
        raise RequestError(431 if head else 414, f"expected at most {HEAD_BYTES} bytes") from error
    except TimeoutError as error:
        raise RequestError(408, f"expected a request within {REQUEST_S:g} s") from error
    return head.removesuffix(b"\r\n")


async def refused(refusal: RequestError, request: Request | None) -> Answer:
    """Return what a refused client gets: on the page itself, a page that asks for the token."""
    if refusal.status == 401 and request is not None and given_token(request) is not None:
        await asyncio.sleep(WRONG_TOKEN_S)
    if refusal.status in (401, 429) and request is not None and request.path == "/":
        return page.login(refusal.text if refusal.status == 429 or "token" in request.query else "", refusal.status)
    extra = {401: {"WWW_Authenticate": "Bearer"}, 405: {"Allow": "GET, HEAD"}, 429: {"Retry_After": "60"}, 503: {"Retry_After": "5"}}
    return text(refusal.status, refusal.text, **extra.get(refusal.status, {}))


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send all of it, and return once the kernel has it; raises TimeoutError if the client does not take it."""
    writer.write(data)
    async with asyncio.timeout(SEND_S):
        await writer.drain()


async def finish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, linger: bool) -> None:
    """Close a connection; where the client may still be sending, take some of it first, or it would not see the answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            if linger and writer.can_write_eof():
                writer.write_eof()
                taken = 0
                while taken < LINGER_BYTES and (data := await reader.read(LINGER_BYTES)):
                    taken += len(data)
            writer.close()
            await writer.wait_closed()
