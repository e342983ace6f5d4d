"""When events begin and end, and the pre-roll."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.runtime.recording.events import Hysteresis, Picture, PreRoll


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.0, 0.79, 0.8, 0.7, 0.0], [False, False, True, True, True]),
        ([0.9, 0.5, 0.5, 0.5, 0.7], [True, True, True, False, False]),
        ([0.9, 0.5, 0.65, 0.5, 0.5, 0.5], [True, True, True, True, True, False]),
        ([0.7, 0.7, 0.7], [False, False, False]),
    ],
)
def test_hysteresis(scores: list[float], expected: list[bool]) -> None:
    event = Hysteresis(0.8, 0.6, hold_s=2.5)
    assert [event.add(score, float(at_s)) for at_s, score in enumerate(scores)] == expected


@given(st.lists(st.tuples(st.floats(0.01, 1), st.integers(0, 400)), max_size=50))
def test_the_pre_roll_is_bounded_in_time_and_bytes(steps: list[tuple[float, int]]) -> None:
    before, at_s = PreRoll(2.0, 1000), 0.0
    for step_s, size in steps:
        at_s += step_s
        before.add(Picture(at_s, 0.0, (1, 1), bytes(size)))
        assert before.bytes <= 1000
    kept = before.taken()
    assert all(at_s - picture.at_s <= 2.0 for picture in kept)
    assert before.taken() == []
