"""What the tests of wear compute from their measurements."""

from __future__ import annotations

import numpy as np
import pytest
from wear import drift

STEADY = np.full(16, 1.2)


@pytest.mark.parametrize("share", [-0.2, 0.0, 0.1, 0.5])
def test_a_value_that_rises_evenly_drifts_by_its_rise(share: float) -> None:
    assert drift(1.2 * (1 + np.linspace(-share / 2, share / 2, 16))) == pytest.approx(share)


def test_a_few_disturbed_pieces_are_no_drift() -> None:
    disturbed = STEADY.copy()
    disturbed[-2:] = 5.0
    assert drift(disturbed) == pytest.approx(0.0)


def test_a_step_in_the_middle_is_one() -> None:
    assert drift(np.where(np.arange(16) < 8, 1.0, 1.5)) > 0.3
