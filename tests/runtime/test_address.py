"""Addresses: taken apart whatever a password holds, and told without it."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.errors import SourceError
from edgedistill.runtime.address import Address, redact

WORDS = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=8, max_size=20).filter(
    lambda word: "host" not in word and "stream" not in word
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtsp://host/stream", "rtsp://host/stream"),
        ("rtsp://user:word@host:554/stream", "rtsp://host:554/stream"),
        ("rtsp://user:w@rd@host/stream", "rtsp://host/stream"),
        ("rtsp://user:w/rd@host/stream", "rtsp://host/stream"),
        ("rtsp://user:w?rd@host/stream?a=b", "rtsp://host/stream?…"),
        ("http://host/snap?user=me&password=word", "http://host/snap?…"),
        ("http://host/x#word", "http://host/x"),
        ("rtsp://host/user=admin_password=word_channel=1_stream=0.sdp?real_stream", "rtsp://host/…?…"),
        ("rtsp://host:554/live/user=admin&password=wo/rd&channel=1", "rtsp://host:554/live/…"),
        ("rtsp://host/PWD=word", "rtsp://host/…"),
        ("rtsp://host/Streaming/Channels/101", "rtsp://host/Streaming/Channels/101"),
        ("rtsp://host/passage/users", "rtsp://host/passage/users"),
        ("test://pattern?fps=3", "test://pattern?fps=3"),
        ("test://user:word@pattern?fps=3", "test://pattern?…"),
        ("user:word@host/stream", "…@host/stream"),
        ("http:/user:word@host/stream", "…@host/stream"),
        ("://user:word@host", "…@host"),
        ("user:word@host://x", "…@host://x"),
        ("clip@home.mp4", "clip@home.mp4"),
        ("http://host/" + "x" * 400, "http://host/" + "x" * 288 + "…"),
        ("12:30.mp4", "12:30.mp4"),
        ("0", "0"),
    ],
)
def test_redacting(text: str, expected: str) -> None:
    assert redact(text) == expected


@given(WORDS)
def test_no_password_survives_redacting(word: str) -> None:
    told = redact(f"rtsp://user:{word}@host/stream")
    assert told in ("rtsp://host/stream", "rtsp://host/stream?…")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://host", ("http", "host", 80, "/", None, "")),
        ("HTTPS://Host:8443/a/b.jpg?x=1&y=2", ("https", "host", 8443, "/a/b.jpg?x=1&y=2", None, "")),
        ("http://host?x=1", ("http", "host", 80, "/?x=1", None, "")),
        ("http://host:/x#part", ("http", "host", 80, "/x", None, "")),
        ("http://[::1]:8080/x", ("http", "[::1]", 8080, "/x", None, "")),
        ("http://me:word@host:81/x", ("http", "host", 81, "/x", "me", "word")),
        ("http://me@host/x", ("http", "host", 80, "/x", "me", "")),
        ("http://:word@host/x", ("http", "host", 80, "/x", "", "word")),
        ("http://me:a@b@host/x", ("http", "host", 80, "/x", "me", "a@b")),
        ("http://me:a/b@host/x", ("http", "host", 80, "/x", "me", "a/b")),
        ("http://me:a?b#c@host/x?y", ("http", "host", 80, "/x?y", "me", "a?b#c")),
        ("http://me:a:b@host/x", ("http", "host", 80, "/x", "me", "a:b")),
        ("http://m%40e:a%2Fb%3Fc%25@host/x", ("http", "host", 80, "/x", "m@e", "a/b?c%")),
        ("http://me:100%@host/x", ("http", "host", 80, "/x", "me", "100%")),
        ("http://host/snap?mail=me@home.org", ("http", "host", 80, "/snap?mail=me@home.org", None, "")),
        ("http://host/\udcff", ("http", "host", 80, "/%FF", None, "")),
        ("rtsp://host/x", ("rtsp", "host", 554, "/x", None, "")),
        ("RTSP://me:a/b@host:8554/x?y=1", ("rtsp", "host", 8554, "/x?y=1", "me", "a/b")),
        ("http://host/a b\r\nX: ü", ("http", "host", 80, "/a%20b%0D%0AX:%20%C3%BC", None, "")),
    ],
)
def test_addresses_are_taken_apart(text: str, expected: tuple[object, ...]) -> None:
    assert Address.parse(text)[:6] == expected


@given(WORDS, WORDS)
def test_any_password_is_understood_when_percent_encoded(user: str, word: str) -> None:
    found = Address.parse(f"http://{quote(user, safe='')}:{quote(word, safe='')}@host/stream")
    assert (found.user, found.password, found.host, found.target) == (user, word, "host", "/stream")
    assert found.name == "http://host/stream"


@pytest.mark.parametrize(
    "text",
    [
        *("", "http", "http://", "http:///x", "http://:80/", "ftp://host/", "http://host:0/", "http://host:99999/", "http://host:a/"),
        *("http://host/\ud800", "http://me:\ud800@host/"),
        *("http://ho st/", "http://ho\r\nst/", "http://[::1/", "http://a:b:c/", "http://me:secret@/x", "http://me:secret@ho st/x"),
    ],
)
def test_what_is_no_address_is_told_so(text: str) -> None:
    with pytest.raises(SourceError, match="is no address of a camera") as caught:
        Address.parse(text)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_clear_error(text: str) -> None:
    told: list[str] = []
    try:
        found = Address.parse(f"http://user:hunter2@{text}")
        told.append(found.name)
        assert found.target.isascii()
        assert found.target.isprintable()
        assert " " not in found.target
    except SourceError as error:
        told.append(str(error))
    assert "hunter2" not in told[0]


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/other", ("http", "host", 80, "/other", "me", "word")),
        ("other", ("http", "host", 80, "/a/other", "me", "word")),
        ("http://HOST:80/other", ("http", "host", 80, "/other", "me", "word")),
        ("https://host/a/x", ("https", "host", 443, "/a/x", None, "")),
        ("http://host:81/", ("http", "host", 81, "/", None, "")),
        ("//evil/", ("http", "evil", 80, "/", None, "")),
        ("http://you:theirs@evil/", ("http", "evil", 80, "/", None, "")),
        ("http://you:theirs@host/", ("http", "host", 80, "/", "me", "word")),
    ],
)
def test_credentials_follow_a_redirect_to_the_same_origin_only(location: str, expected: tuple[object, ...]) -> None:
    assert Address.parse("http://me:word@host/a/x").joined(location)[:6] == expected


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://host/", "rtsp://host/x", "javascript:0", "http://[", "http://ho st/"])
def test_a_redirect_to_what_is_no_web_address_is_refused(location: str) -> None:
    with pytest.raises(SourceError, match=r"sends on|is no address"):
        Address.parse("http://me:word@host/a/x").joined(location)
