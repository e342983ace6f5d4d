"""The parser of MJPEG streams: the same parts however the bytes are cut, and bounded memory whatever comes."""

from __future__ import annotations

from contextlib import suppress

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.runtime.compressed import decode, jpeg_end, jpeg_header, size_hw
from edgedistill.runtime.multipart import MOST_HEADER_BYTES, Multipart, MultipartError, boundary_of

JPEGS = [bytes(cv2.imencode(".jpg", np.full((8 + n, 16, 3), 50 * n, np.uint8))[1]) for n in range(4)]
PNG = bytes(cv2.imencode(".png", np.zeros((5, 7, 3), np.uint8))[1])


def stream(parts: list[bytes], *, delimiter: str = "--frame", length: bool = True, header: bool = True, end: str = "\r\n") -> bytes:
    sent = b""
    for part in parts:
        lines = [delimiter]
        if header:
            lines.append("Content-Type: image/jpeg")
            lines += [f"Content-Length: {len(part)}"] if length else []
        sent += (end.join(lines) + end + (end if header else "")).encode() + part + end.encode()
    return sent + delimiter.encode() + end.encode()


def parts_of(data: bytes, boundary: str | None, cuts: list[int] | None = None) -> list[bytes]:
    parser, found, last = Multipart(boundary), [], 0
    for cut in [*sorted(cuts or []), len(data)]:
        found += parser.feed(data[last:cut])
        last = cut
    return found


@pytest.mark.parametrize("boundary", ["frame", "--frame", None])
@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_the_dialects_of_cameras(boundary: str | None, length: bool, end: str) -> None:
    assert parts_of(stream(JPEGS, length=length, end=end), boundary) == JPEGS


def test_parts_without_any_header() -> None:
    assert parts_of(stream(JPEGS, header=False), "frame") == JPEGS


@settings(max_examples=40, deadline=None)
@given(st.data(), st.booleans())
def test_however_the_bytes_are_cut_the_parts_are_the_same(data: st.DataObject, length: bool) -> None:
    sent = stream(JPEGS, length=length)
    cuts = data.draw(st.lists(st.integers(0, len(sent)), max_size=30))
    assert parts_of(sent, "frame", cuts) == JPEGS


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(st.binary(max_size=300), st.sampled_from([b"--frame\r\n", b"\r\n\r\n", b"Content-Length: 99\r\n", JPEGS[0]])), max_size=30
    )
)
def test_random_bytes_do_no_harm(pieces: list[bytes]) -> None:
    parser = Multipart("frame", most_bytes=1000)
    with suppress(MultipartError):
        for piece in pieces:
            assert all(len(part) <= 1000 for part in parser.feed(piece))
            assert parser.held <= 1000 + MOST_HEADER_BYTES + 600


@pytest.mark.parametrize(
    ("begin", "filler", "message"),
    [
        (b"", b"x" * 1000, "no boundary"),
        (b"--frame\r\n", b"X-Header: 1\r\n" * 100, "a part's header of more than"),
        (b"--frame\r\n\r\n", b"\0" * 1000, "a picture of more than"),
        (b"--frame\r\nContent-Length: 10000000000\r\n\r\n", b"\0" * 1000, "a picture of more than"),
    ],
)
def test_what_never_ends_is_refused(begin: bytes, filler: bytes, message: str) -> None:
    parser = Multipart("frame", most_bytes=20_000)
    parser.feed(begin)
    with pytest.raises(MultipartError, match=message):
        any(parser.feed(filler) for _ in range(1000))
    assert parser.held < 100_000


@pytest.mark.parametrize("wrong", [-20, 20, 10**9])
def test_a_wrong_length_costs_at_most_its_own_part(wrong: int) -> None:
    sent = stream(JPEGS)
    true = f"Content-Length: {len(JPEGS[1])}".encode()
    found = parts_of(sent.replace(true, f"Content-Length: {max(0, len(JPEGS[1]) + wrong)}".encode(), 1), "frame")
    assert JPEGS[0] in found
    assert JPEGS[2] in found
    assert JPEGS[3] in found


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/x-mixed-replace; boundary=frame", "frame"),
        ('multipart/x-mixed-replace;boundary="a b"', "a b"),
        ("multipart/x-mixed-replace; boundary=--frame", "--frame"),
        ("multipart/x-mixed-replace", None),
        ("multipart/x-mixed-replace; boundary=", None),
        ("", None),
    ],
)
def test_the_boundary_in_a_header(content_type: str, boundary: str | None) -> None:
    assert boundary_of(content_type) == boundary


@given(st.text(max_size=60))
def test_any_header_has_a_boundary_or_none(text: str) -> None:
    found = boundary_of(f"multipart/x-mixed-replace; boundary={text}")
    assert found is None or found


@pytest.mark.parametrize(("data", "size"), [(JPEGS[2], (10, 16)), (PNG, (5, 7)), (JPEGS[0][:-2], None), (b"", None), (b"GIF89a", None)])
def test_the_size_of_a_picture(data: bytes, size: tuple[int, int] | None) -> None:
    assert size_hw(data) == size


def test_a_picture_larger_than_allowed_is_not_decoded() -> None:
    assert decode(JPEGS[0], most_pixels=8 * 16) is not None
    assert decode(JPEGS[0], most_pixels=8 * 16 - 1) is None


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(JPEGS[3]) - 1), st.binary(max_size=4), st.integers(0, len(JPEGS[3])))
def test_damaged_pictures_are_decoded_or_refused(place: int, bytes_: bytes, length: int) -> None:
    damaged = JPEGS[3][:place] + bytes_ + JPEGS[3][place + len(bytes_) : length]
    header = jpeg_header(damaged)
    assert header is None or jpeg_end(damaged, header) is None or min(header[:2]) > 0
    frame_bgr = decode(damaged, most_pixels=1_000_000)
    assert frame_bgr is None or frame_bgr.shape[2] == 3
