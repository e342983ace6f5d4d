"""What may be asked of a source, and what a wrong wish is told."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.errors import SourceError
from edgedistill.runtime.wishes import Roi, Wishes, in_pixels, parse_roi


@pytest.mark.parametrize(
    ("wishes", "turn"),
    [
        ({}, False),
        ({"width": 640, "height": 480, "fps": 29.97}, False),
        ({"rotate": 90}, True),
        ({"flip": "both"}, True),
        ({"roi": (0, 0, 1, 1)}, True),
        ({"roi": (0.1, 0.1, 0.9, 0.9)}, True),
    ],
)
def test_wishes_that_can_be_met(wishes: dict[str, object], turn: bool) -> None:
    assert Wishes(**wishes).turn is turn


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"width": 0}, "width 0: expected pixels from 1"),
        ({"height": 100_000}, "height 100000"),
        ({"fps": 0}, "fps 0: expected frames a second above 0"),
        ({"fps": float("nan")}, "fps nan"),
        ({"fps": float("inf")}, "fps inf"),
        ({"rotate": 45}, "rotate 45: expected degrees clockwise, one of 0, 90, 180, 270"),
        ({"flip": "horizontally"}, "Did you mean 'horizontal'"),
        ({"roi": (0, 0, 0, 5)}, "region of interest 0,0,0,5: expected"),
    ],
)
def test_wishes_that_no_source_can_meet(wishes: dict[str, object], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        Wishes(**wishes)


@pytest.mark.parametrize(
    ("text", "expected"), [("0,0,640,480", (0, 0, 640, 480)), (" 10, 20 ,30,40", (10, 20, 30, 40)), ("0.25,0,0.5,1", (0.25, 0.0, 0.5, 1.0))]
)
def test_a_region_of_interest(text: str, expected: Roi) -> None:
    assert parse_roi(text) == expected


def test_numbers_that_no_float_holds_are_refused_shortly() -> None:
    with pytest.raises(SourceError, match=f"region of interest {'9' * 20},0,1,1: expected"):
        parse_roi("9" * 400 + ",0,1,1")


@pytest.mark.parametrize(
    ("roi", "expected"),
    [
        ((10, 20, 30, 40), (10, 20, 30, 40)),
        ((0, 0, 1, 1), (0, 0, 1, 1)),
        ((0.25, 0.0, 0.5, 1.0), (160, 0, 320, 480)),
        ((0.0, 0.0, 1.0, 1.0), (0, 0, 640, 480)),
        ((0.999, 0.999, 0.0001, 0.0001), (639, 479, 1, 1)),
    ],
)
def test_a_region_in_pixels_of_a_frame(roi: Roi, expected: tuple[int, int, int, int]) -> None:
    assert in_pixels(roi, 480, 640) == expected


@pytest.mark.parametrize(("x", "width"), [(0.1, 0.3), (0.333, 0.334), (0.7, 0.3)])
def test_neighbouring_fractions_neither_overlap_nor_leave_a_gap(x: float, width: float) -> None:
    left, _, wide, _ = in_pixels((0.0, 0.0, x, 1.0), 480, 641)
    assert in_pixels((x, 0.0, width, 1.0), 480, 641)[0] == left + wide


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "four numbers"),
        ("1,2,3", "four numbers"),
        ("1,2,3,4,5", "four numbers"),
        ("1,2,3,x", "four numbers"),
        ("1.5,2,3,4", "no edge beyond 1, the whole side"),
        ("0.5,0,0.6,1", "no edge beyond 1"),
        ("nan,0.,1,1", "X and Y"),
        ("-1,0,3,4", "upper left corner. of 0 or more"),
        ("0,0,0,4", "above 0"),
        ("0,0,4,99999", "beyond 16384 pixels"),
    ],
)
def test_a_wrong_region_of_interest(text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        parse_roi(text)
    assert "region of interest" in str(caught.value)


@given(st.text(st.sampled_from("0123456789,-. x"), max_size=20))
def test_any_text_is_a_region_or_a_clear_error(text: str) -> None:
    with contextlib.suppress(SourceError):
        x, y, width, height = parse_roi(text)
        assert min(x, y) >= 0
        assert min(width, height) > 0
        assert Wishes(roi=(x, y, width, height)).turn
