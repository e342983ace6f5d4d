"""The test pattern: its options, and that the same number is the same picture."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import read_all

from edgedistill.errors import SourceError
from edgedistill.runtime.ending import CaptureSource
from edgedistill.runtime.pattern import Pattern, draw_pattern, open_pattern, parse_pattern


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("test://", Pattern()),
        ("test://pattern", Pattern(width=640, height=480, fps=30.0, frames=None)),
        ("test://pattern?width=320&height=200", Pattern(width=320, height=200)),
        ("test://?fps=12.5&frames=3", Pattern(fps=12.5, frames=3)),
        ("test://pattern?fps=0", Pattern(fps=0)),
    ],
)
def test_options(text: str, expected: Pattern) -> None:
    assert parse_pattern(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("test://pattern?wdth=3", "wdth"),
        ("test://pattern?width=4", "width"),
        ("test://pattern?width=wide", "width"),
        ("test://pattern?fps=-1", "fps"),
        ("test://pattern?fps=nan", "fps"),
        ("test://pattern?frames=0", "frames"),
        ("test://pattern?frames=" + "9" * 20, "frames"),
        ("test://pattern?frames=", "frames"),
        ("test://pattern?width=3.5", "width"),
        ("test://bars", "there is one test source"),
        ("test://[", "Invalid"),
    ],
)
def test_wrong_options(text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        parse_pattern(text)
    assert "test://pattern" in str(caught.value)


@given(st.text(max_size=40))
def test_any_options_parse_or_raise_a_source_error(text: str) -> None:
    with contextlib.suppress(SourceError):
        assert parse_pattern(f"test://pattern?{text}").width >= 8


def test_frames_move_and_repeat_exactly() -> None:
    first = draw_pattern(0)
    assert first.shape == (480, 640, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, draw_pattern(0))
    pictures = [draw_pattern(number).tobytes() for number in range(10)]
    assert len(set(pictures)) == 10


def test_the_three_shapes_have_three_colours() -> None:
    pixels = draw_pattern(3).reshape(-1, 3)
    for channel in range(3):
        others = [other for other in range(3) if other != channel]
        strongest = (pixels[:, [channel]].astype(int) - pixels[:, others] > 80).all(axis=1)
        assert strongest.sum() > 1000


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 300), (300, 9), (1080, 1920)])
def test_any_size_is_drawn(height: int, width: int) -> None:
    assert all(draw_pattern(number, height=height, width=width).shape == (height, width, 3) for number in (0, 50, 10**6))


def test_without_fps_every_frame_is_given() -> None:
    with CaptureSource(open_pattern("test://pattern?fps=0&frames=5&width=32&height=16")) as source:
        frames = read_all(source)
    assert not source.live
    assert [frame.id for frame in frames] == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(frames[4].frame_bgr, draw_pattern(4, height=16, width=32))


def test_with_fps_it_is_live_and_keeps_its_pace() -> None:
    with CaptureSource(open_pattern("test://pattern?fps=100&frames=4&width=32&height=16")) as source:
        frames = read_all(source)
    assert source.live
    assert source.fps == 100
    assert source.ended
    assert len(frames) + source.dropped == 4
    assert frames[-1].captured_s - frames[0].captured_s >= (frames[-1].id - frames[0].id) * 0.01 - 0.005
