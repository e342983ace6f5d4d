"""One request to a network camera: redirects, passwords, limits on what it may send and how long that may take."""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from edgedistill import __version__
from edgedistill.errors import SourceError
from edgedistill.runtime.address import Address

#: How long connecting may take, every single read, and all of an opening together. Connecting again finds a camera that comes back
#: sooner than the system does, which knocks more and more seldom.
CONNECT_S, READ_S, OPEN_S = 1.5, 5.0, 8.0
MOST_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)


class Answer(NamedTuple):
    """An answer whose head is there, and the connection that its body comes by."""

    address: Address
    connection: http.client.HTTPConnection
    line: socket.socket
    response: http.client.HTTPResponse

    @property
    def content_type(self) -> str:
        """The type in lower case, without its parameters."""
        return (self.response.headers.get_content_type() or "").lower()

    def hang_up(self) -> None:
        """Make whoever reads from it fail at once; called from any thread, any number of times."""
        cut(self.line)

    def close(self) -> None:
        """Give everything back."""
        self.hang_up()
        for part in (self.response, self.connection, self.line):
            with suppress(Exception):
                part.close()


class Login:
    """The user and password of an address, as Basic or Digest, whichever the camera asks for. Raises SourceError where that cannot be."""

    def __init__(self) -> None:
        self._digest: urllib.request.HTTPDigestAuthHandler | None = None
        self._challenge: dict[str, str] = {}
        self._basic = False

    def header(self, address: Address) -> dict[str, str]:
        """Return the header to send along; none before `learn`."""
        if address.user is None:
            return {}
        request = urllib.request.Request(f"{address.scheme}://{address.host}:{address.port}{address.target}")
        if self._basic:
            return {"Authorization": "Basic " + base64.b64encode(_bytes(f"{address.user}:{address.password}")).decode()}
        if self._digest is not None:
            try:
                found = self._digest.get_authorization(request, self._challenge)
            except (
                ValueError,
                urllib.error.URLError,
            ) as error:  # kinds that urllib lacks, or letters that it cannot encode
                why = "letters beyond ASCII" if isinstance(error, UnicodeError) else str(getattr(error, "reason", error))[:200]
                raise SourceError(
                    f"{address.name} asks for a Digest login that cannot be made ({why}); give the camera a user and password of ASCII "
                    "letters, or let it take Basic"
                ) from None
            return {"Authorization": f"Digest {found}"} if found else {}
        return {}

    def learn(self, address: Address, response: http.client.HTTPResponse) -> bool:
        """Take what a 401 asks for; return whether there is something new to try."""
        if address.user is None or self._basic:
            return False
        for challenge in response.headers.get_all("WWW-Authenticate") or []:
            scheme, _, rest = challenge.partition(" ")
            if scheme.lower() == "digest":
                pairs = (item.partition("=") for item in urllib.request.parse_http_list(rest))
                items = {name: value.strip('"') for name, equals, value in pairs if equals}
                if self._digest is not None and items.get("stale", "").lower() != "true":
                    return False
                self._challenge, self._digest = items, _digest(address)
                return True
            if scheme.lower() == "basic":
                self._basic = True
                return True
        return False


def _bytes(login: str) -> bytes:
    """Return the bytes of a login; those of a command line that are not UTF-8 stay what they are."""
    return login.encode("utf-8", "surrogateescape")


def _digest(address: Address) -> urllib.request.HTTPDigestAuthHandler:
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, f"{address.scheme}://{address.host}:{address.port}/", address.user or "", address.password)
    return urllib.request.HTTPDigestAuthHandler(passwords)


def ask(address: Address, login: Login) -> Answer:
    """Ask for an address and return the answer once it is a good one; raises SourceError."""
    for _ in range(MOST_REDIRECTS + 3):
        answer = _ask_once(address, login)
        status = answer.response.status
        if status == 200:
            return answer
        location = answer.response.headers.get("Location")
        again = status == 401 and login.learn(address, answer.response)
        answer.close()
        if again:
            continue
        if status not in REDIRECTS or location is None:
            raise SourceError(f"{address.name} {_refusal(status, address)}")
        address = address.joined(location)
    raise SourceError(f"{address.name} sends on and on to other addresses; give the camera's own address")


def _refusal(status: int, address: Address) -> str:
    if status in (401, 403):
        told = "needs a user and password: http://USER:PASSWORD@HOST/…" if address.user is None else "refuses the user or the password"
        return f"{told} (status {status})"
    return f"answers with status {status}; check the address, and that the camera is well"


def _ask_once(address: Address, login: Login) -> Answer:
    host = address.host.strip("[]")
    connection = (
        http.client.HTTPSConnection(host, address.port, timeout=READ_S, context=ssl.create_default_context())
        if address.scheme == "https"
        else http.client.HTTPConnection(host, address.port, timeout=CONNECT_S)
    )
    headers = {"User-Agent": f"edgedistill/{__version__}", "Accept": "*/*", **login.header(address)}
    try:
        connection.connect()
        line = connection.sock
        line.settimeout(READ_S)
        with time_limit(line, OPEN_S):
            connection.request("GET", address.target, headers=headers)
            return Answer(address, connection, line, connection.getresponse())
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
        connection.close()
        reason = "it took too long" if isinstance(error, TimeoutError) else f"{type(error).__name__}" if not str(error) else str(error)
        raise SourceError(f"{address.name} does not answer ({reason[:200]}); check the address and the network") from None


@contextmanager
def time_limit(line: socket.socket, seconds: float) -> Iterator[None]:
    """Cut a connection if what is done with it takes too long, however slowly bytes drip."""
    timer = threading.Timer(seconds, cut, (line,))
    timer.name, timer.daemon = "http time limit", True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def cut(line: socket.socket) -> None:
    """Shut a socket down, under TLS as well, where the layer above must not be touched from another thread."""
    with suppress(OSError):
        socket.socket.shutdown(line, socket.SHUT_RDWR)
