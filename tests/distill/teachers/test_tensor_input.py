"""How a file's input is filled: layouts, types, normalization, and what is asked of the recipe."""

from __future__ import annotations

from typing import Any

import made
import numpy as np
import pytest

from edgedistill.bundle import Quantization
from edgedistill.distill.teachers.tensor_input import Found, TensorInput, input_of
from edgedistill.errors import EdgeDistillError
from edgedistill.recipe import Teacher

RAW = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}


def tensor(found: Found, **keys: Any) -> TensorInput:
    return input_of(found, Teacher(model="onnx:x", **keys), None)


@pytest.mark.parametrize(
    ("shape", "layout", "size"),
    [
        ([1, 3, 20, 24], "NCHW", (20, 24)),
        (["N", 20, 24, 3], "NHWC", (20, 24)),
        ([None, 3, None, None], "NCHW", (16, 16)),
        (["N", "H", "W", 3], "NHWC", (16, 16)),
    ],
)
def test_layout_and_size_come_from_the_shape(shape: list[Any], layout: str, size: tuple[int, int]) -> None:
    free = not isinstance(shape[2], int)
    made_of = tensor(Found(shape, "float32"), **RAW, **({"input_size": 16} if free else {}))
    assert (made_of.layout, made_of.size) == (layout, size)
    filled = made_of.fill(made.views(2, side=24).views)
    assert filled.shape == ((2, 3, *size) if layout == "NCHW" else (2, *size, 3))
    assert filled.flags["C_CONTIGUOUS"]


def test_floats_are_normalized_by_channel() -> None:
    views = made.views(2).views
    filled = tensor(Found([1, 16, 16, 3], "float32"), mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0)).fill(views)
    pixels = views.numpy().astype(np.float64) / 255
    assert filled == pytest.approx((pixels - [0.5, 0.25, 0.0]) / [0.5, 0.25, 1.0], abs=1e-5)


def test_bytes_are_the_pixels_themselves_whatever_the_quantization() -> None:
    views = made.views(2).views
    for quantization in (None, Quantization(scale=0.007843, zero_point=127)):
        filled = tensor(Found([1, 16, 16, 3], "uint8", quantization)).fill(views)
        assert filled.dtype == np.uint8
        assert np.array_equal(filled, views.numpy())


def test_quantized_floats_are_stored_by_scale_and_zero_point() -> None:
    views = made.views(2).views
    found = Found([1, 16, 16, 3], "int8", Quantization(scale=2 / 255, zero_point=0))
    filled = tensor(found, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)).fill(views)
    assert filled.dtype == np.int8
    expected = np.clip(np.rint((views.numpy() / 127.5 - 1) / (2 / 255)), -128, 127)
    assert np.abs(filled - expected).max() <= 1  # halves may be rounded to either side
    assert filled.min() <= -127


@pytest.mark.parametrize(
    ("found", "keys", "message"),
    [
        (Found([1, 16, 16, 3], "float32"), {}, r"takes float32, and nothing says how its pixels are normalized; set mean and std"),
        (Found([1, 16, 16, 3], "int8", Quantization(scale=1.0, zero_point=0)), {}, "takes int8, and nothing says how"),
        (Found([1, 16, 16, 3], "int8"), RAW, "int8 without scale and zero point"),
        (Found([1, 16, 16, 3], "uint8"), RAW, "bytes, which cannot be normalized"),
        (Found([1, 16, 16, 3], "int32"), RAW, "takes int32"),
        (Found([1, "H", "W", 3], "float32"), RAW, "images of any size; say the one"),
        (Found([1, 16, 24, 3], "float32"), RAW | {"input_size": 16}, "input_size is 16, but onnx:x takes images of 16x24"),
        (Found([1, 1, 16, 16], "float32"), RAW, r"takes a tensor \[1, 1, 16, 16\], expected images"),
        (Found([1, 768], "float32"), RAW, r"takes a tensor \[1, 768\], expected images"),
        (Found([1, 3, 16, 3], "float32"), RAW, "expected images"),
    ],
)
def test_inputs_that_are_not_clear_are_explained(found: Found, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgeDistillError, match=message):
        tensor(found, **keys)
