"""Whether a source that is away could be there again: a cheap look between the attempts to open it, which grow rare in a long outage.

A device is there once its file is, a network camera once it takes a connection. Neither says that it works; opening it tells that.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from edgedistill.errors import SourceError
from edgedistill.runtime.address import Address
from edgedistill.runtime.cameras import device_of

#: How long a camera may take to accept a connection; one of another network that takes longer is opened when its time has come.
KNOCK_S = 0.5


def presence(kind: str, text: str) -> Callable[[], bool] | None:
    """Return what looks whether the source of this kind and text (see `sources`) is there; None where there is no cheap way.

    It takes `KNOCK_S` at most, but for the look-up of a name; raises SourceError for a text that is no address.
    """
    if kind == "camera":
        device = Path(f"/dev/video{int(text)}" if text.isdecimal() else text)
        return device.exists
    if kind == "usb":
        serial = text.partition(":")[2]
        return lambda: _is_plugged_in(serial)
    if kind in ("http", "https", "rtsp"):
        address = Address.parse(text)
        return lambda: _accepts(address.host.strip("[]"), address.port)
    return None


def _is_plugged_in(serial: str) -> bool:
    try:
        device_of(serial)
    except SourceError:
        return False
    return True


def _accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=KNOCK_S).close()
    except (OSError, UnicodeError):  # UnicodeError: a name that cannot be one of a host
        return False
    return True
