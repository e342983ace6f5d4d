"""Where an MQTT broker is and how to get in: the address, the password from a file, TLS. Errors never show a password."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from edgedistill.errors import OutputError

FORM = "mqtt://[USER@]HOST[:PORT][/TOPIC], or mqtts:// for TLS"
PORTS = {"mqtt": 1883, "mqtts": 8883}
LONGEST_TOPIC = 200
#: A password file larger than this is something else.
LONGEST_PASSWORD = 4096


class Broker(NamedTuple):
    """One broker. `topic` is what the address says, "" if it says nothing."""

    host: str
    port: int
    user: str | None
    tls: bool
    topic: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_broker(address: str) -> Broker:
    """Return what an address says; raises OutputError, without the address, as there may be a password in it."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError as error:
        raise OutputError(f"the MQTT address cannot be read ({type(error).__name__}); expected {FORM}") from None
    if parts.scheme not in PORTS or not host:
        raise OutputError(f"the MQTT address is none: expected {FORM}")
    if parts.password is not None:
        raise OutputError("the MQTT address holds a password, which everybody on this machine could read; use --mqtt-password-file FILE")
    if parts.query or parts.fragment:
        raise OutputError(f"the MQTT address has something after '?' or '#', which means nothing; expected {FORM}")
    topic = unquote(parts.path).strip("/")
    if any(sign in topic for sign in "#+\0") or topic.startswith("$") or len(topic) > LONGEST_TOPIC:
        raise OutputError(f"'{topic[:50]}' cannot be a topic; expected names and '/', without + and #, up to {LONGEST_TOPIC} characters")
    user = unquote(parts.username) if parts.username else None
    return Broker(host, port or PORTS[parts.scheme], user, parts.scheme == "mqtts", topic)


def read_password(broker: Broker, file: Path | None) -> str | None:
    """Return the first line of a password file; None without a file."""
    if file is None:
        return None
    if broker.user is None:
        raise OutputError(f"{file} is the password of nobody: name the user in the address, mqtt://USER@{broker.host}")
    try:
        with file.open(encoding="utf-8") as stream:
            password = stream.read(LONGEST_PASSWORD + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"{file} cannot be read as a password file: {type(error).__name__}; expected a line of text") from None
    lines = password.splitlines()
    if not lines or not lines[0] or len(password) > LONGEST_PASSWORD:
        raise OutputError(f"{file} is no password file: expected the password in its first line")
    return lines[0]


def tls_context(broker: Broker, ca: Path | None) -> ssl.SSLContext | None:
    """Return what to speak TLS with, the broker's certificate and name being checked; None for mqtt://."""
    if not broker.tls:
        if ca is not None:
            raise OutputError(f"{ca} is of no use without TLS: write mqtts:// instead of mqtt://")
        return None
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ValueError) as error:
        raise OutputError(f"{ca} cannot be read as a certificate authority: {error}; expected a PEM file") from error
    if ca is not None:
        # From Python 3.13 on certificates need extensions that those which people make for their own broker mostly lack; chain and
        # name are checked all the same.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
