"""Where to serve and to whom: what is accepted, what is refused with which advice, and which token applies."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.errors import OutputError
from edgedistill.runtime.serve import ServeOptions, parse_bind, read_token, token_for
from edgedistill.runtime.serve.options import TOKEN, is_loopback

TOKEN_TEXT = "a-good-long-token"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8080", ("127.0.0.1", 8080)),
        ("0", ("127.0.0.1", 0)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("localhost:65535", ("localhost", 65535)),
        ("pi-4.local:8080", ("pi-4.local", 8080)),
        ("[::]:8080", ("::", 8080)),
        ("[::1]:8080", ("::1", 8080)),
        ("[FE80:0::1]:8080", ("fe80::1", 8080)),
    ],
)
def test_places_to_serve_at(text: str, expected: tuple[str, int]) -> None:
    assert parse_bind(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":8080",
        "host",
        "host:",
        "65536",
        "h:99999",
        "-1",
        "::1:8080",
        "[::1]",
        "[10.0.0.1]:80",
        "[::g]:80",
        "a b:80",
        "http://h:80",
        "h:80/",
        "８０",
    ],
)
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(OutputError, match=r"expected|no IPv6"):
        parse_bind(text)


@given(st.text(max_size=40))
def test_any_text_gives_a_place_or_a_clear_error(text: str) -> None:
    try:
        host, port = parse_bind(text)
    except OutputError:
        return
    assert host
    assert 0 <= port <= 65535


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"port": 65536}, "0 to 65535"),
        ({"port": -1}, "0 to 65535"),
        ({"host": ""}, r"0\.0\.0\.0"),
        ({"token": "short"}, "8 to 256"),
        ({"token": "with a blank in it"}, "8 to 256"),
        ({"token": "two-lines-of\nthem"}, "8 to 256"),
        ({"token": "ünsichtbares-wort"}, "8 to 256"),
        ({"tls_key": Path("key.pem")}, "--tls-cert"),
        ({"preview_fps": 0}, "at most 60"),
        ({"preview_fps": float("nan")}, "at most 60"),
        ({"preview_width": 10}, "64 to 4096"),
    ],
)
def test_options_that_cannot_be_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(OutputError, match=message):
        ServeOptions(**wrong)


def test_a_refused_token_is_not_told() -> None:
    with pytest.raises(OutputError) as caught:
        ServeOptions(token="my secret word")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.2", False),
        ("pi.local", False),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_which_hosts_only_this_machine_can_reach(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_a_token_is_made_where_others_can_come() -> None:
    assert token_for(ServeOptions()) is None
    assert token_for(ServeOptions(token=TOKEN_TEXT)) == TOKEN_TEXT
    first, second = token_for(ServeOptions(host="0.0.0.0")), token_for(ServeOptions(host="0.0.0.0"))
    assert first != second
    assert first is not None
    assert len(first) >= 32
    assert TOKEN.fullmatch(first)
    assert token_for(ServeOptions(host="0.0.0.0", token=TOKEN_TEXT)) == TOKEN_TEXT


def test_a_token_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"\n {TOKEN_TEXT} \n")
    assert read_token(file) == TOKEN_TEXT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"short", "8 to 256"),
        (b"one-word-here\ntwo-words-here", "one line"),
        (b"x" * 5000, "one line"),
        ("ünsichtbar-und-lang".encode(), "empty|one line"),
        (b"\x00" * 20, "one line"),
    ],
)
def test_a_file_without_a_token_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(OutputError, match=message):
        read_token(file)


def test_a_token_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"token cannot be read: No such file"):
        read_token(tmp_path / "token")
    with pytest.raises(OutputError, match="cannot be read: Is a directory"):
        read_token(tmp_path)
