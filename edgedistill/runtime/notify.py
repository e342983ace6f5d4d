"""Tell systemd how a service is (sd_notify): ready, alive, its one line, stopping. Without a service manager all of it does nothing."""

from __future__ import annotations

import functools
import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Messages to the service manager, a datagram each.

    Args:
        environment: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID as systemd sets them.
        pid: this process; the watchdog is fed only by the process that it watches.
    """

    def __init__(self, environment: Mapping[str, str], pid: int) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        usable = address[:1] in ("/", "@") and hasattr(socket, "AF_UNIX")
        self._address = ("\0" + address[1:] if address.startswith("@") else address) if usable else None
        self._every_s = _watchdog_s(environment, pid) / 2
        self._fed_s = -self._every_s

    def ready(self) -> None:
        """Start-up is over: results flow, or are waited for."""
        self._send("READY=1")

    def alive(self) -> None:
        """Feed the watchdog; called for each result and while none can come, and says so twice in the watchdog's time."""
        if self._address is None or self._every_s == 0:
            return
        now_s = time.monotonic()
        if now_s - self._fed_s >= self._every_s:
            self._fed_s = now_s
            self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send("STATUS=" + " ".join(text.split()))

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(message.encode(), self._address)
        except OSError:
            return  # a manager that is gone or does not listen is no reason to end; a watchdog that starves says it loudly enough


def _watchdog_s(environment: Mapping[str, str], pid: int) -> float:
    """Return the watchdog's time, 0 where there is none or it watches another process."""
    text, watched = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not text.isdecimal() or (watched and watched != str(pid)):
        return 0.0
    return int(text) / 1e6


@functools.cache
def _notifier() -> Notifier:
    return Notifier(os.environ, os.getpid())


def ready() -> None:
    """Tell the service manager, if there is one, that start-up is over."""
    _notifier().ready()


def alive() -> None:
    """Feed its watchdog; costs a look at the clock."""
    _notifier().alive()


def status(text: str) -> None:
    """Set its one line."""
    _notifier().status(text)


def stopping() -> None:
    """Tell it that the end has begun."""
    _notifier().stopping()
