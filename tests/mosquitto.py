"""A real MQTT broker for tests: mosquitto on a free port, with users or TLS where asked for, a listener, and a wire that can be read."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

SBIN = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/sbin"
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path=SBIN)
PASSWD = shutil.which("mosquitto_passwd")
OPENSSL = shutil.which("openssl")


class Message(NamedTuple):
    """What a broker handed on."""

    topic: str
    payload: bytes
    retain: bool


def eventually(holds: Callable[[], object], *, within_s: float = 10.0) -> None:
    """Wait until something holds; fail if it does not."""
    end_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.01)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def listens(port: int) -> bool:
    """Return whether somebody does."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Mosquitto:
    """A broker that can be stopped and started again on the same port; retained messages do not survive that.

    Args:
        settings: further lines of its configuration.
    """

    def __init__(self, folder: Path, *, settings: tuple[str, ...] = ("allow_anonymous true",)) -> None:
        self.port = free_port()
        self._config = folder / f"mosquitto-{self.port}.conf"
        self._config.write_text("\n".join(["user root", f"listener {self.port} 127.0.0.1", *settings, ""]))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert MOSQUITTO is not None
        command = [MOSQUITTO, "-c", str(self._config)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(lambda: listens(self.port))

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def mosquitto(folder: Path, *, settings: tuple[str, ...] = ("allow_anonymous true",)) -> Iterator[Mosquitto]:
    """Yield a running broker."""
    broker = Mosquitto(folder, settings=settings)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def password_settings(folder: Path, user: str, password: str) -> tuple[str, ...]:
    """Return the settings of a broker that knows one user."""
    assert PASSWD is not None
    file = folder / "passwords"
    subprocess.run([PASSWD, "-b", "-c", str(file), user, password], check=True, capture_output=True)
    return ("allow_anonymous false", f"password_file {file}")


def certificates(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Make an authority and a certificate for 127.0.0.1; return the authority's file and the broker's settings."""
    assert OPENSSL is not None
    ca, ca_key, key, request, cert = (folder / name for name in ("ca.pem", "ca.key", "broker.key", "broker.csr", "broker.pem"))
    names = folder / "names"
    names.write_text("subjectAltName=IP:127.0.0.1\n")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for arguments in (
        ["req", "-x509", *new_key, "-keyout", ca_key, "-out", ca, "-subj", "/CN=test authority", "-days", "2"],
        ["req", *new_key, "-keyout", key, "-out", request, "-subj", "/CN=127.0.0.1"],
        ["x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-out", cert, "-days", "2", "-extfile", names],
    ):
        subprocess.run([OPENSSL, *map(str, arguments)], check=True, capture_output=True)
    return ca, ("allow_anonymous true", f"certfile {cert}", f"keyfile {key}")


class Listener:
    """Notes all that a broker hands on, whatever the topic."""

    def __init__(self, port: int) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.messages: list[Message] = []
        self._subscribed = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2)
        self.client.on_connect = lambda client, *rest: client.subscribe("#", qos=1)
        self.client.on_subscribe = lambda *rest: self._subscribed.set()
        self.client.on_message = lambda client, userdata, m: self.messages.append(Message(m.topic, m.payload, m.retain))
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self._subscribed.wait(10)

    def payloads(self, topic: str) -> list[bytes]:
        """Return all that came under a topic, or under one that ends so."""
        return [message.payload for message in list(self.messages) if message.topic.endswith(topic)]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def listener(port: int) -> Iterator[Listener]:
    """Yield a listener that has subscribed to everything."""
    one = Listener(port)
    try:
        yield one
    finally:
        one.close()


class Wire:
    """A TCP wire to a port that keeps every byte that goes to it, and that can be made deaf: then nothing is passed on any more."""

    def __init__(self, port: int) -> None:
        self.sent = bytearray()
        self.deaf = False
        self._to = port
        self._sockets: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in (self._server, *self._sockets):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # its other end was closed before
            finally:
                one.close()

    def _accept(self) -> None:
        while True:
            try:
                near = self._server.accept()[0]
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            self._sockets += [near, far]
            threading.Thread(target=self._pass_on, args=(near, far, self.sent), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(far, near, bytearray()), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, kept: bytearray) -> None:
        try:
            while data := source.recv(65536):
                kept += data
                if not self.deaf:
                    target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return


@contextmanager
def wire(port: int) -> Iterator[Wire]:
    """Yield a wire to a port."""
    one = Wire(port)
    try:
        yield one
    finally:
        one.close()
