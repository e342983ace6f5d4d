"""Answers written on frames."""

from __future__ import annotations

import numpy as np
import pytest
from a_result import TWO, result

from edgedistill.postprocess import Prediction
from edgedistill.runtime.outputs import annotate


@pytest.mark.parametrize(("height", "width"), [(480, 640), (1080, 1920), (120, 160), (8, 8)])
def test_annotating_writes_above_and_leaves_the_rest(height: int, width: int) -> None:
    frame_bgr = np.full((height, width, 3), 90, np.uint8)
    image_bgr = annotate(frame_bgr, result())
    assert image_bgr.shape == frame_bgr.shape
    assert (frame_bgr == 90).all()
    assert (image_bgr[0] != 90).any()
    if height > 100:
        np.testing.assert_array_equal(image_bgr[height // 2 :], frame_bgr[height // 2 :])


def test_annotated_letters_are_readable_at_640_by_480() -> None:
    image_bgr = annotate(np.full((480, 640, 3), 255, np.uint8), result(top_k=TWO[:1]))
    bright = (image_bgr[:60] > 200).all(axis=2)
    rows = np.flatnonzero(bright[:30].any(axis=1))
    assert 12 <= rows.max() - rows.min() <= 30
    assert bright[:30].sum() > 300


@pytest.mark.parametrize("label", ["x" * 300, "Größe", "猫", ""])
def test_any_label_is_drawn_within_the_frame(label: str) -> None:
    image_bgr = annotate(np.full((480, 640, 3), 90, np.uint8), result(top_k=(Prediction(0, label, 0.5),)))
    assert (image_bgr[:34, -4:] < 40).all(), "letters run out of the frame"
