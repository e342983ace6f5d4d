"""Who may look: token, cookie and Host header, and a limit on guesses. Health checks need no token.

A valid cookie always passes, being too long to be guessed; an address that guessed tokens wrong too often is not listened to for a while.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

from edgedistill.runtime.serve.options import ServeOptions, is_loopback
from edgedistill.runtime.serve.request import Request, RequestError, cookies

OPEN_PATHS = ("/healthz", "/readyz")
#: So many wrong tokens from one address within so many seconds are too many.
MOST_GUESSES, GUESSES_S = 10, 60.0
#: So many addresses are remembered.
MOST_ADDRESSES = 1024
COOKIE_S = 30 * 24 * 3600


class Access:
    """Decides over requests.

    Args:
        port: the one that is served at; cookies are shared by all ports of a host, so their name has it.
        clock: monotonic seconds.
    """

    def __init__(self, options: ServeOptions, *, port: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._token = options.token
        self._only_this_machine = is_loopback(options.host)
        self._secure = options.tls_cert is not None
        self._cookie = f"edgedistill_{port}"
        self._clock = clock
        self._guesses: OrderedDict[str, list[float]] = OrderedDict()

    def check(self, request: Request, address: str) -> None:
        """Return if a request may be answered; raises RequestError with 401, 421 or 429."""
        self._check_host(request)
        if self._token is None or request.path in OPEN_PATHS or self._has_cookie(request):
            return
        given = given_token(request)
        if given is None:
            raise RequestError(
                401, "this needs the token that was told at the start: Authorization: Bearer TOKEN, or the page with ?token=TOKEN"
            )
        guesses = self._recent_guesses(near(address))
        if len(guesses) >= MOST_GUESSES:
            raise RequestError(429, "too many wrong tokens; wait a minute")
        if not same(given, self._token):
            guesses.append(self._clock())
            raise RequestError(401, "the token is wrong")

    def cookie(self) -> str:
        """Return the Set-Cookie header of whoever came with the token."""
        secure = "; Secure" if self._secure else ""
        return f"{self._cookie}={self._cookie_value()}; Path=/; Max-Age={COOKIE_S}; HttpOnly; SameSite=Strict{secure}"

    def _check_host(self, request: Request) -> None:
        """Refuse other sites whose name was made to point to this machine (DNS rebinding)."""
        host = request.headers.get("host")
        if self._only_this_machine and host is not None and not is_loopback(host_name(host)):
            raise RequestError(421, "this is served to localhost only")

    def _has_cookie(self, request: Request) -> bool:
        return same(cookies(request).get(self._cookie, ""), self._cookie_value())

    def _cookie_value(self) -> str:
        return hmac.new((self._token or "").encode(), b"edgedistill live page", hashlib.sha256).hexdigest()

    def _recent_guesses(self, address: str) -> list[float]:
        """Return when an address guessed wrong lately, as a list to append to."""
        now_s = self._clock()
        recent = [at_s for at_s in self._guesses.pop(address, []) if now_s - at_s < GUESSES_S]
        self._guesses[address] = recent
        while len(self._guesses) > MOST_ADDRESSES:
            self._guesses.popitem(last=False)
        return recent


def given_token(request: Request) -> str | None:
    """Return the token that a request brings: as a bearer, or for the page in its address."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return request.query.get("token") if request.path == "/" else None


def same(given: str, expected: str) -> bool:
    """Compare in a time that tells nothing of where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())


def host_name(host: str) -> str:
    """Return the name or address of a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def near(address: str) -> str:
    """Return what is counted as one address: for IPv6 the network, of which one machine has 2^64."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 6 and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(getattr(found, "ipv4_mapped", None) or found)
