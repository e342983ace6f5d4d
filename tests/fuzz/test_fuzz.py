"""Valid inputs that were damaged at random, and plain noise: only the project's own errors come out, with a message that helps.

The same checks run guided by coverage: `python tests/fuzz`. What was found is in `FOUND`, or a case of the parser's own test where it is
long. Last run with atheris 3.0.0 on Python 3.11, x86-64, 60 to 150 s a target, without anything raised in the end: tflite 73 thousand
inputs, tflite_metadata 639, cut 2,943, clip 45, source 388, login 23, broker 2,506, request 7,901, multipart 106, answer 75, learn 455.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_targets import TARGETS
from hypothesis import given, settings
from hypothesis import strategies as st

#: What often stands for something: limits of numbers, ends of lines, and what parsers look for.
WORDS = (
    *(b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\x7f", b"\0", b"\r\n", b"\r\n\r\n", b"--", b"@", b"://", b'"'),
    *(b"\\u0000", b"1e999", b"-1", b"9" * 30, b"[" * 2000),
)

#: What raised once, by target.
FOUND = (
    ("login", b"[" * 300),  # the system's words for a name that is too long hold all of it
    ("login", b"host/x@y\x80"),  # bytes of a command line that are not UTF-8
    ("source", b"http://me:word@host:80/x?a=b\x80"),
    ("region", b"9" * 400 + b",0,1,1"),  # more than a float holds
    ("learn", b"Digest a=b, c"),  # no pair
    ("learn", b"Digest x="),  # no value
    ("learn", b'Digest realm="a", nonce="b", qop="auth-int"'),
    ("learn", b'Digest realm="\xe9", nonce="b"'),
    ("answer", b"HTTP/1.1 302 F\r\nLocation: " + b"\x9e" * 150 + b"/\r\n\r\n"),  # a longer name after each redirect
    ("golden", b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2, 3, 3)," + b"[" * 60),
    ("golden", b"\x93NUMPY\x01\x00F\x00{'descr': '|u1', 'fortran_order': False, 'shape': (9999999,9999999)}\n"),
    ("tflite", b"\x00\x00\x00\x00TFL3"),
    ("tflite_metadata", b"\x00\x00\x00\x00M001"),
    ("onnx_metadata", b"r\x0a\x0a\x04name\x12\x02\xff\xff"),  # text that is none
)


def damaged(seeds: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Return a strategy for inputs with a few places overwritten, removed or filled in."""
    word = st.binary(max_size=6) | st.sampled_from(WORDS)
    edit = st.tuples(st.floats(0, 1), st.integers(0, 8) | st.integers(0, 4000), word)
    return st.builds(edited, st.sampled_from(seeds), st.lists(edit, max_size=5))


def edited(data: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    changed = bytearray(data)
    for place, length, new in edits:
        begin = int(place * len(changed))
        changed[begin : begin + length] = new
    return bytes(changed)


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_input_gives_clear_errors_only(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=80)
    @given(damaged(target.seeds()) | st.binary(max_size=200))
    def run(data: bytes) -> None:
        target.check(data)

    run()


@pytest.mark.parametrize(("name", "data"), FOUND)
def test_what_was_found_stays_right(name: str, data: bytes) -> None:
    TARGETS[name].check(data)


@pytest.mark.parametrize("name", TARGETS)
def test_what_fuzzing_begins_from_is_fine(name: str) -> None:
    for seed in (b"", *TARGETS[name].seeds()):
        TARGETS[name].check(seed)


@pytest.mark.parametrize("arguments", [["nothing"], ["--seconds", "soon"]])
def test_a_wrong_call_of_the_runner_is_told(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent), *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert any(said in done.stderr for said in ("no target nothing; there are manifest,", "atheris is not installed", "invalid int value"))
