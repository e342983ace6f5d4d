"""Who may look: token, cookie, Host header, and what happens to those who guess."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedistill.runtime.serve import ServeOptions
from edgedistill.runtime.serve import access as access_module
from edgedistill.runtime.serve.access import MOST_GUESSES, Access, host_name, near
from edgedistill.runtime.serve.request import Request, RequestError

TOKEN = "a-good-long-token"
OTHER = "192.168.0.9"


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def request(path: str = "/state.json", *, token: str | None = None, **headers: str) -> Request:
    return Request("GET", path, {} if token is None else {"token": token}, {"host": "pi:8080", **headers})


def guarded(token: str | None = TOKEN, *, host: str = "0.0.0.0", clock: Clock | None = None) -> Access:
    return Access(ServeOptions(host=host, token=token), port=8080, clock=clock or Clock())


def status(access: Access, asked: Request, address: str = OTHER) -> int:
    """Return 200 if a request may be answered, or what it is refused with."""
    try:
        access.check(asked, address)
    except RequestError as error:
        return error.status
    return 200


def own_cookie(access: Access) -> str:
    return access.cookie().partition(";")[0]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (request(), 401),
        (request(authorization=f"Bearer {TOKEN}"), 200),
        (request(authorization=f"bearer  {TOKEN} "), 200),
        (request(authorization=f"Basic {TOKEN}"), 401),
        (request(authorization="Bearer wrong"), 401),
        (request(authorization="Bearer "), 401),
        (request(authorization="Bearer é"), 401),
        (request(authorization=f"Bearer {TOKEN[:-1]}"), 401),
        (request("/", token=TOKEN), 200),
        (request("/", token="wrong"), 401),
        (request("/", token="\udcff"), 401),
        (request("/state.json", token=TOKEN), 401),
        (request("/stream.mjpg", token=TOKEN), 401),
        (request("/nothing"), 401),
        (request("/healthz"), 200),
        (request("/readyz"), 200),
        (request("/healthz/"), 401),
        (request(cookie="edgedistill_8080=wrong"), 401),
        (request(cookie=f"edgedistill_8080={TOKEN}"), 401),
        (request(cookie="edgedistill_8080="), 401),
    ],
)
def test_who_may_look(asked: Request, expected: int) -> None:
    assert status(guarded(), asked) == expected


def test_the_cookie_lets_in_and_does_not_hold_the_token() -> None:
    access = guarded()
    cookie = access.cookie()
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert TOKEN not in cookie
    assert status(access, request(cookie=f"other=1; {own_cookie(access)}")) == 200
    assert status(guarded("another-long-token"), request(cookie=own_cookie(access))) == 401


def test_with_tls_the_cookie_is_sent_by_tls_only() -> None:
    assert "; Secure" in Access(ServeOptions(token=TOKEN, tls_cert=Path("c.pem")), port=1).cookie()


def test_who_guesses_is_not_listened_to_for_a_while() -> None:
    clock = Clock()
    access = guarded(clock=clock)
    right, wrong = request(authorization=f"Bearer {TOKEN}"), request(authorization="Bearer wrong")
    assert [status(access, wrong) for _ in range(MOST_GUESSES)] == [401] * MOST_GUESSES
    assert status(access, wrong) == 429
    assert status(access, right) == 429
    assert status(access, right, "192.168.0.10") == 200
    assert status(access, request(cookie=own_cookie(access))) == 200
    assert status(access, request("/healthz")) == 200
    clock.now_s += access_module.GUESSES_S + 1
    assert status(access, right) == 200


def test_old_cookies_and_no_token_at_all_are_no_guesses() -> None:
    access = guarded()
    for _ in range(3 * MOST_GUESSES):
        assert status(access, request(cookie="edgedistill_8080=old")) == 401
        assert status(access, request()) == 401
    assert status(access, request(authorization=f"Bearer {TOKEN}")) == 200


def test_a_flood_of_addresses_takes_no_memory() -> None:
    access = guarded()
    for number in range(2 * access_module.MOST_ADDRESSES):
        status(access, request(authorization="Bearer wrong"), f"10.0.{number // 256}.{number % 256}")
    assert len(access._guesses) == access_module.MOST_ADDRESSES


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8080", "LocalHost:80", "127.1.2.3"]
)
def test_this_machine_may_ask_itself_without_a_token(host: str) -> None:
    assert status(guarded(None, host="127.0.0.1"), request(host=host)) == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "192.168.0.2", "[::2]", "[", "", "127.0.0.1.evil"]
)
@pytest.mark.parametrize("path", ["/", "/state.json", "/healthz"])
def test_other_names_for_this_machine_are_refused(host: str, path: str) -> None:
    assert status(guarded(None, host="127.0.0.1"), request(path, host=host)) == 421
    assert status(guarded(TOKEN, host="localhost"), request(path, host=host, authorization=f"Bearer {TOKEN}")) == 421


def test_a_client_of_http_1_0_may_leave_its_host_out() -> None:
    assert status(guarded(None, host="127.0.0.1"), Request("GET", "/", {}, {})) == 200


def test_on_the_network_any_name_will_do() -> None:
    assert status(guarded(), request(host="anything", authorization=f"Bearer {TOKEN}")) == 200


@pytest.mark.parametrize(
    ("host", "expected"), [("a:1", "a"), ("a", "a"), ("[::1]:1", "::1"), ("[::1]", "::1"), ("[", ""), ("", ""), (":1", "")]
)
def test_names_of_hosts(host: str, expected: str) -> None:
    assert host_name(host) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("somewhere", "somewhere"),
    ],
)
def test_one_network_is_one_guesser(address: str, expected: str) -> None:
    assert near(address) == expected
