"""What the cameras on the network have in common that tests run in this process: they listen on 127.0.0.1, go away and come back."""

from __future__ import annotations

import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal, Self

PATIENCE_S = 10.0


class CameraServer(ABC):
    """Listens on a port of its own and serves each connection in a thread.

    Attributes:
        auth: "basic" or "digest": what requests must carry, with `user` and `password`.
        connections: how many there were.
        open_connections: how many there are now.
    """

    user, password, realm = "user", "word", "camera"

    def __init__(self) -> None:
        self.auth: Literal["basic", "digest"] | None = None
        self.connections = 0
        self.port = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._off = threading.Event()
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []

    @property
    def open_connections(self) -> int:
        with self._lock:
            return len(self._open)

    def with_password(self, address: str) -> str:
        """Return an address with this camera's user and password in it."""
        return address.replace("://", f"://{self.user}:{self.password}@")

    def __enter__(self) -> Self:
        self.back()
        return self

    def __exit__(self, *exception: object) -> None:
        self.outage()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def outage(self) -> None:
        """Stop listening and cut every connection."""
        self._off.set()
        listener, self._listener = self._listener, None
        if listener is not None:
            cut(listener)
        with self._lock:
            for connection in self._open:
                cut(connection)

    def back(self) -> None:
        """Listen again, on the port of before."""
        self._off = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept, self._listener, self._off)

    @contextmanager
    def unplugged(self) -> Iterator[None]:
        """Be away as a camera without power is: nothing answers any more, not even with a refusal."""
        self.outage()
        with ExitStack() as stack:  # a queue that is full takes no more connections, and says nothing
            queue = stack.enter_context(socket.create_server(("127.0.0.1", self.port), backlog=0))
            for _ in range(3):
                line = stack.enter_context(socket.socket())
                line.setblocking(False)
                line.connect_ex(queue.getsockname())
            yield
        self.back()

    @abstractmethod
    def serve(self, connection: socket.socket, off: threading.Event) -> None:
        """Serve one connection until it ends or `off` is set; it is to be `joined` as soon as it can be cut, and `left` in the end."""

    def joined(self, connection: socket.socket) -> None:
        """Remember a connection, to cut it in an outage."""
        with self._lock:
            self._open.add(connection)

    def left(self, connection: socket.socket) -> None:
        """Forget a connection, and close it."""
        with self._lock:
            self._open.discard(connection)
        cut(connection)
        connection.close()

    def _start(self, target: object, *arguments: object) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=target, args=arguments, name=type(self).__name__, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket, off: threading.Event) -> None:
        while not off.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                break
            self.connections += 1
            self._start(self.serve, connection, off)
        listener.close()


def cut(connection: socket.socket) -> None:
    """Cut a connection, or wake who waits for one."""
    try:
        # under TLS, the plain socket's: the other thread may be using the session
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:  # it was not connected, or is closed already
        return
