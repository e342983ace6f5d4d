"""Region of interest, rotation and mirror, against the same by numpy."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import FakeCamera

from edgedistill.runtime.frames import Traits
from edgedistill.runtime.oriented import Oriented
from edgedistill.runtime.wishes import FLIPS, ROTATIONS, Wishes

FRAME = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


def seen(wishes: Wishes, frame_bgr: np.ndarray | None = FRAME) -> np.ndarray | None:
    capture = Oriented(FakeCamera([frame_bgr]), wishes)
    assert capture.grab()
    decoded, found = capture.retrieve()
    assert decoded == (found is not None)
    return found


@pytest.mark.parametrize("flip", FLIPS)
@pytest.mark.parametrize("rotate", ROTATIONS)
def test_rotation_is_clockwise_and_comes_before_the_mirror(rotate: int, flip: str) -> None:
    expected = np.rot90(FRAME, -rotate // 90)
    expected = expected[:, ::-1] if flip in ("horizontal", "both") else expected
    expected = expected[::-1] if flip in ("vertical", "both") else expected
    found = seen(Wishes(rotate=rotate, flip=flip))  # type: ignore[arg-type]
    assert found is not None
    np.testing.assert_array_equal(found, expected)
    assert found.flags.c_contiguous


@pytest.mark.parametrize(
    ("roi", "expected"),
    [
        ((2, 1, 3, 4), FRAME[1:5, 2:5]),
        ((6, 4, 100, 100), FRAME[4:, 6:]),
        ((0.25, 0.5, 0.5, 0.5), FRAME[3:6, 2:6]),
        ((0.0, 0.0, 1.0, 1.0), FRAME),
    ],
)
def test_the_region_of_interest_is_cut_out_first(roi, expected: np.ndarray) -> None:
    found = seen(Wishes(roi=roi))
    np.testing.assert_array_equal(found, expected)
    turned = seen(Wishes(roi=roi, rotate=90))
    np.testing.assert_array_equal(turned, np.rot90(expected, -1))


def test_a_region_outside_of_the_frame_is_told_once_and_counts_as_undecodable(caplog: pytest.LogCaptureFixture) -> None:
    capture = Oriented(FakeCamera([FRAME] * 3, traits=Traits("cam")), Wishes(roi=(50, 50, 10, 10)))
    for _ in range(3):
        assert capture.grab()
        assert capture.retrieve() == (False, None)
    assert [record.getMessage() for record in caplog.records] == ["cam: the region of interest lies outside of its frames of 8x6"]


def test_what_cannot_be_decoded_stays_so() -> None:
    assert seen(Wishes(rotate=90), None) is None


def test_the_rest_is_the_captures_own() -> None:
    inner = FakeCamera([FRAME], traits=Traits("cam", fps=12))
    capture = Oriented(inner, Wishes(rotate=90))
    capture.interrupt()
    capture.release()
    assert capture.traits.fps == 12
    assert inner.interrupted.is_set()
    assert inner.released.is_set()
