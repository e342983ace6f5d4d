"""Logging in at a camera: whatever it asks for, there is a header to send, or none, or a clear error without the password."""

from __future__ import annotations

import base64
from http.client import HTTPMessage
from types import SimpleNamespace

import pytest

from edgedistill.errors import SourceError
from edgedistill.runtime.address import Address
from edgedistill.runtime.http_answer import Login


def asked(*challenges: str) -> SimpleNamespace:
    """Return an answer with these challenges, as far as a login looks at it."""
    headers = HTTPMessage()
    for challenge in challenges:
        headers["WWW-Authenticate"] = challenge
    return SimpleNamespace(headers=headers)


def header(text: str, *challenges: str) -> str:
    login, address = Login(), Address.parse(text)
    login.learn(address, asked(*challenges))
    return login.header(address).get("Authorization", "")


DIGEST = 'Digest realm="a", nonce="b", qop="auth"'


@pytest.mark.parametrize(
    ("challenges", "begin"),
    [
        ((), ""),
        (("",), ""),
        (("Bearer x",), ""),
        (("Basic realm=x",), "Basic "),
        (("BASIC",), "Basic "),
        ((DIGEST,), "Digest "),
        (("Bearer x", DIGEST, "Basic realm=x"), "Digest "),
        ((f"{DIGEST}, no pair, =, ,,",), "Digest "),
        (("Digest no pair at all",), ""),
        (("Digest",), ""),
        (('Digest realm="not closed',), ""),
    ],
)
def test_what_is_sent_for_what_is_asked(challenges: tuple[str, ...], begin: str) -> None:
    found = header("http://me:word@host/x", *challenges)
    assert found.startswith(begin)
    assert bool(found) is bool(begin)


def test_without_a_user_nothing_is_sent() -> None:
    assert header("http://host/x", DIGEST) == ""


@pytest.mark.parametrize("word", ["wörd", "w\udcffrd"])
def test_basic_takes_the_bytes_of_any_password(word: str) -> None:
    found = header(f"http://me:{word}@host/x", "Basic")
    assert base64.b64decode(found.removeprefix("Basic ")) == f"me:{word}".encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("text", "challenge", "said"),
    [
        ("http://me:wörd@host/x", DIGEST, "letters beyond ASCII"),
        ("http://me:w\udcffrd@host/x", DIGEST, "letters beyond ASCII"),
        ("http://me:word@host/x", f"{DIGEST}, algorithm=ROT13", "ROT13"),
        ("http://me:word@host/x", 'Digest realm="a", nonce="b", qop="auth-int"', "'auth-int' is not supported"),
    ],
)
def test_a_digest_that_cannot_be_made_is_told(text: str, challenge: str, said: str) -> None:
    with pytest.raises(
        SourceError, match=rf"^http://host/x asks for a Digest login that cannot be made \(.*{said}.*\); give the camera"
    ) as caught:
        header(text, challenge)
    assert not any(part in str(caught.value) for part in ("wörd", "w\udcffrd", "ö"))
