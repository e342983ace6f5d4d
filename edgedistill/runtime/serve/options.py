"""Where and to whom a running loop shows itself: options, their checks, and the token that visitors need."""

from __future__ import annotations

import ipaddress
import re
import secrets
from pathlib import Path

import msgspec

from edgedistill.errors import OutputError

LOOPBACK = "127.0.0.1"
#: What a token may be made of, so that it fits into an address, a header and a line of a file.
TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{8,256}")
LARGEST_TOKEN_FILE = 4096


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where the live page is served, and to whom.

    Args:
        host: name or address of this machine to listen at; other than the machine itself (loopback) it needs a token.
        port: 0 takes any free one.
        token: what visitors must know; see `token_for`.
        tls_cert: certificate (PEM), with its chain; then it is https.
        tls_key: its key (PEM), where that is not in the same file.
        preview: whether pictures are shown at all.
        preview_fps: at most so many pictures a second.
        preview_width: pictures are brought down to this width in pixels, never up.
    """

    host: str = LOOPBACK
    port: int = 8080
    token: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    preview: bool = True
    preview_fps: float = 10.0
    preview_width: int = 640

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise OutputError(f"the live page cannot be served at port {self.port}: expected 0 to 65535")
        if not self.host:
            raise OutputError("the live page needs a host to be served at; give 0.0.0.0 for all networks, or leave it out for 127.0.0.1")
        if self.token is not None and not TOKEN.fullmatch(self.token):
            raise OutputError("the token cannot be used: expected 8 to 256 letters, digits or any of . _ ~ + / = -")
        if self.tls_key is not None and self.tls_cert is None:
            raise OutputError(f"{self.tls_key} is the key of a certificate that was not given; give --tls-cert too")
        if not 0 < self.preview_fps <= 60:
            raise OutputError(f"the preview cannot have {self.preview_fps:g} pictures a second: expected more than 0 and at most 60")
        if not 64 <= self.preview_width <= 4096:
            raise OutputError(f"the preview cannot be {self.preview_width} pixels wide: expected 64 to 4096")


def parse_bind(text: str) -> tuple[str, int]:
    """Return host and port of `PORT`, `HOST:PORT` or `[IPv6]:PORT`; raises OutputError."""
    found = re.fullmatch(r"(?:(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9][A-Za-z0-9._-]{0,252})):)?(\d{1,5})", text, re.ASCII)
    if found is None:
        raise OutputError(
            f"{text!r} is nowhere to serve the live page at: expected PORT, HOST:PORT or [IPv6]:PORT, such as 8080 or 0.0.0.0:8080"
        )
    if int(found[3]) > 65535:
        raise OutputError(f"{text!r} has no port that exists: expected 0 to 65535")
    return (_ipv6(found[1]) if found[1] else found[2] or LOOPBACK), int(found[3])


def _ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError as error:
        raise OutputError(f"[{text}] is no IPv6 address: {error}; for an IPv4 address leave the brackets out") from error


def is_loopback(host: str) -> bool:
    """Return whether only this machine itself can reach a host; a name other than localhost counts as reachable by others."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def token_for(options: ServeOptions) -> str | None:
    """Return the token that visitors need: the given one; none where only this machine can come; else a new one, to be told once."""
    if options.token is not None or is_loopback(options.host):
        return options.token
    return secrets.token_urlsafe(24)


def read_token(path: Path) -> str:
    """Return the token in a file; raises OutputError if it cannot be read, is empty, or holds more than one word."""
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_TOKEN_FILE + 1)
    except OSError as error:
        raise OutputError(f"the token file {path} cannot be read: {error.strerror}; check its name and permissions") from error
    try:
        text = raw.decode("ascii").strip()
    except UnicodeDecodeError:
        text = " "
    if not text:
        raise OutputError(f"the token file {path} is empty; make one with: openssl rand -hex 16 > {path}")
    if not TOKEN.fullmatch(text):
        raise OutputError(
            f"the token file {path} cannot be used: expected one line of 8 to 256 letters, digits or any of . _ ~ + / = -; "
            f"make one with: openssl rand -hex 16 > {path}"
        )
    return text
