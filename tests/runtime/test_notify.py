"""sd_notify, with a socket that really listens."""

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgedistill.runtime import notify
from edgedistill.runtime.notify import Notifier

PID = 4711


class Manager:
    """What systemd is to a service: a socket, and what came there."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(5)

    def next(self) -> str:
        return self._socket.recv(4096).decode()

    def silent(self) -> bool:
        self._socket.setblocking(False)
        try:
            return not self._socket.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self._socket.settimeout(5)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    one = Manager(str(tmp_path / "notify") if request.param == "path" else f"@edgedistill-{uuid.uuid4()}")
    yield one
    one.close()


def notifier(manager: Manager, **more: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": manager.address, **more}, PID)


def test_all_that_can_be_said(manager: Manager) -> None:
    one = notifier(manager)
    one.ready()
    one.status("30.0 results a second,\nquality excellent")
    one.stopping()
    assert [manager.next() for _ in range(3)] == ["READY=1", "STATUS=30.0 results a second, quality excellent", "STOPPING=1"]


def test_a_thousand_results_feed_the_watchdog_once(manager: Manager) -> None:
    one = notifier(manager, WATCHDOG_USEC="60000000")
    for _ in range(1000):
        one.alive()
    assert manager.next() == "WATCHDOG=1"
    assert manager.silent()


def test_results_go_on_feeding_it(manager: Manager) -> None:
    one = notifier(manager, WATCHDOG_USEC="20000")
    for _ in range(3):
        while manager.silent():
            one.alive()


@pytest.mark.parametrize(
    ("watchdog", "fed"),
    [
        ({}, False),
        ({"WATCHDOG_USEC": "1000000"}, True),
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(PID)}, True),
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, False),
        ({"WATCHDOG_USEC": "soon"}, False),
        ({"WATCHDOG_USEC": "-5"}, False),
        ({"WATCHDOG_USEC": "0"}, False),
    ],
)
def test_only_a_watchdog_that_watches_this_process_is_fed(manager: Manager, watchdog: dict[str, str], *, fed: bool) -> None:
    one = notifier(manager, **watchdog)
    one.alive()
    assert manager.silent() is not fed


@pytest.mark.parametrize("address", ["", "relative/path", "vsock:2:1234"])
def test_without_a_manager_nothing_happens(address: str) -> None:
    one = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}, PID)
    one.ready()
    one.alive()
    one.status("x")
    one.stopping()


def test_a_manager_that_is_gone_or_does_not_listen_ends_nothing(manager: Manager) -> None:
    one = notifier(manager)
    for _ in range(5000):
        one.status("nobody reads this " * 20)
    manager.close()
    one.ready()


def test_the_module_speaks_for_its_process(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    code = "from edgedistill.runtime import notify; notify.ready(); notify.alive(); notify.status('well'); notify.stopping()"
    variables = {**os.environ, "NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1000000"}
    subprocess.run([sys.executable, "-c", code], env=variables, check=True, timeout=30)
    assert [manager.next() for _ in range(4)] == ["READY=1", "WATCHDOG=1", "STATUS=well", "STOPPING=1"]
    manager.close()


def test_it_needs_nothing_but_the_standard_library() -> None:
    source = Path(notify.__file__).read_text()
    imported = {line.split()[1].split(".")[0] for line in source.splitlines() if line.startswith(("import ", "from "))}
    assert imported <= sys.stdlib_module_names
