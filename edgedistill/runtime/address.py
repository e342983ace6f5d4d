"""Addresses of network cameras: taken apart into host, path, user and password, and told without the two that no log may hold."""

from __future__ import annotations

import re
from typing import NamedTuple, Self
from urllib.parse import quote, unquote, urljoin

from edgedistill.errors import SourceError

PORTS = {"http": 80, "https": 443, "rtsp": 554}
WEB = ("http", "https")
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/?#@\[\]\\%\x00-\x1f\x7f]+)(?::(?P<port>[0-9]{0,5}))?")
#: A name stands in every line of results; a camera can send on to an address of 64 kB.
LONGEST_NAME = 300
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://")
#: What a request's target may hold beside letters and digits; everything else is percent-encoded.
_IN_TARGET = "/:?&=%~+!$,;'@()*[]|"
#: From here on a path names a password, as cheap cameras have it: /user=admin_password=word_channel=1.
_PATH_LOGIN = re.compile(r"/[^/]*(user|pass|pwd|token|secret)[a-z]*=.*", re.IGNORECASE | re.DOTALL)


def split_scheme(text: str) -> tuple[str, str]:
    """Return what stands before and behind `://`; for text that does not begin like an address nothing, and all of it."""
    found = _SCHEME.match(text)
    return (found[1], text[found.end() :]) if found else ("", text)


def redact(text: str) -> str:
    """Return an address without user, password, query and what of its path names a password, none of which may reach a log.

    Other text is returned as it is, but for what looks like a login before an at sign: an address whose beginning was mistyped.
    """
    scheme, rest = split_scheme(text)
    if not scheme:
        login, at, host = text.rpartition("@")
        return f"…@{host}" if at and ":" in login else text
    if scheme.lower() == "test" and "@" not in rest:
        return text
    address, _, query = rest.partition("?")
    # A password may hold slashes, at signs and question marks of its own: everything up to the last at sign goes.
    if "@" in query:
        address, query = query.rpartition("@")[2].partition("?")[::2]
    host = address.rpartition("@")[2]
    place = _PATH_LOGIN.sub("/…", host.partition("#")[0])
    told = f"{scheme}://{place}" + ("?…" if query else "")
    return told if len(told) <= LONGEST_NAME else told[:LONGEST_NAME] + "…"


def tellable(name: str) -> str:
    """Return a source's name as every output can write it: bytes of a file's name that are not UTF-8 are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


class Address(NamedTuple):
    """An http://, https:// or rtsp:// address; `target` is path and query as a request names them, `name` what messages call it."""

    scheme: str
    host: str
    port: int
    target: str
    user: str | None
    password: str
    name: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """Whom credentials are for."""
        return self.scheme, self.host, self.port

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take an address apart; raises SourceError, without telling any of the credentials.

        Where `@`, `/`, `?` or `#` stand in a password as they are, it goes up to the last at sign; percent-encoded ones are clear.
        """
        scheme, _, rest = text.partition("://")
        scheme = scheme.lower()
        login, found, tail = _split(rest)
        port = int(found["port"] or PORTS.get(scheme, 0)) if found else 0
        if scheme not in PORTS or not found or not 1 <= port <= 65535 or not _has_bytes(text):
            kind = scheme if scheme in PORTS else "http"
            raise SourceError(
                f"{redact(text)} is no address of a camera; expected {kind}://HOST/PATH or {kind}://USER:PASSWORD@HOST:PORT/PATH"
            )
        user, colon, password = login.partition(":")
        # A command line's bytes that are not UTF-8 stay what they are.
        target = quote(tail.partition("#")[0], safe=_IN_TARGET, errors="surrogateescape")
        known = bool(user or colon)
        return cls(
            scheme,
            found["host"].lower(),
            port,
            target if target.startswith("/") else f"/{target}",
            unquote(user) if known else None,
            unquote(password),
            redact(text),
        )

    def joined(self, location: str) -> Self:
        """Return where a redirect leads; credentials go along to the same origin only, and any in the location are not used."""
        whole = f"{self.scheme}://{self.host}:{self.port}{self.target}"
        try:
            there = urljoin(whole, location.strip())
        except ValueError as error:
            raise SourceError(f"{self.name} sends on to an address that is none; check the address") from error
        if there.partition("://")[0].lower() not in WEB:
            raise SourceError(f"{self.name} sends on to an address that is not http:// or https://; give the camera's own address")
        found = self.parse(there)
        same = found.origin == self.origin
        return found._replace(user=self.user if same else None, password=self.password if same else "")


def _has_bytes(text: str) -> bool:
    """Return whether any command line's bytes stand for a text; half surrogates of other kinds do not."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _split(rest: str) -> tuple[str, re.Match[str] | None, str]:
    """Return the login, the matched host and port, and all that follows."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    login, _, place = authority.rpartition("@")
    found = _HOST.fullmatch(place)
    if found or "@" not in rest:
        return login, found, rest[len(authority) :]
    login, _, behind = rest.rpartition("@")
    authority = re.split(r"[/?#]", behind, maxsplit=1)[0]
    return login, _HOST.fullmatch(authority), behind[len(authority) :]
