"""Frames to pixels: the same as on the device, and calibration sets that say nothing are refused."""

from __future__ import annotations

import blobs
import numpy as np
import pytest

from edgedistill.bundle import Preprocess
from edgedistill.convert.pixels import FEWEST_CALIBRATION_FRAMES, calibration_pixels, model_pixels
from edgedistill.errors import ConvertError, DataError
from edgedistill.preprocess import Preprocessor


def test_pixels_are_what_the_device_makes_of_each_frame() -> None:
    frames = blobs.frames(5, seed=0)[0]
    pixels = model_pixels(frames, blobs.SPEC)
    assert pixels.shape == (5, 16, 16, 3)
    assert pixels.dtype == np.uint8
    prepare = Preprocessor(blobs.SPEC)
    for row, frame in zip(pixels, frames, strict=True):
        assert np.array_equal(row, prepare(frame)[0])


def test_frames_of_many_sizes_and_bgr_order() -> None:
    frames = [np.full((height, 20, 3), (10, 20, 30), np.uint8) for height in (4, 9, 33)]
    pixels = model_pixels(frames, Preprocess(height=8, width=8))
    assert (pixels == (30, 20, 10)).all()


def test_a_broken_frame_is_refused() -> None:
    with pytest.raises(DataError, match=r"\(H, W, 3\)"):
        model_pixels([np.zeros((4, 4), np.uint8)], blobs.SPEC)


@pytest.mark.parametrize("count", [0, 1, FEWEST_CALIBRATION_FRAMES - 1])
def test_too_few_calibration_frames(count: int) -> None:
    with pytest.raises(ConvertError, match=f"at least 16 calibration images, got {count}; raise export.calibration"):
        calibration_pixels(blobs.frames(max(count, 1), seed=0)[0][:count], blobs.SPEC)


def test_calibration_frames_that_are_all_alike() -> None:
    with pytest.raises(ConvertError, match="all 20 calibration images are alike"):
        calibration_pixels([blobs.frames(1, seed=0)[0][0]] * 20, blobs.SPEC)


def test_one_different_frame_is_enough() -> None:
    frames = [np.zeros((16, 16, 3), np.uint8)] * 15 + [np.ones((16, 16, 3), np.uint8)]
    assert len(calibration_pixels(frames, blobs.SPEC)) == 16
