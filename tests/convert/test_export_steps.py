"""Steps are told before they start, and their seconds add up by name."""

from __future__ import annotations

import pytest

from edgedistill.convert.steps import Steps


def test_steps_are_told_in_order_and_timed() -> None:
    told: list[str] = []
    steps = Steps(told.append)
    with steps("first"):
        assert told == ["first"]
    with steps("second"):
        pass
    assert told == ["first", "second"]
    assert list(steps.seconds) == ["first", "second"]
    assert all(seconds >= 0 for seconds in steps.seconds.values())


def test_a_step_that_is_done_again_adds_to_its_time() -> None:
    steps = Steps(lambda text: None)
    with steps("again"):
        pass
    before = steps.seconds["again"]
    with steps("again"):
        sum(range(1000))
    assert steps.seconds["again"] > before
    assert list(steps.seconds) == ["again"]


def test_a_step_that_fails_is_not_hidden() -> None:
    with pytest.raises(ValueError, match="broken"), Steps(lambda text: None)("one"):
        raise ValueError("broken")
