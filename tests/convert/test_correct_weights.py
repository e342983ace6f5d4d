"""Weights as 8 bits hold them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.convert.correct.weights import quantized_weight, weight_scale


def test_each_channel_has_the_scale_of_its_largest_weight():
    weight = torch.tensor([[1.27, -0.006, 0.0149], [0.0, -254.0, 3.1]])
    assert weight_scale(weight).flatten().tolist() == pytest.approx([0.01, 2.0])
    torch.testing.assert_close(quantized_weight(weight), torch.tensor([[1.27, -0.01, 0.01], [0.0, -254.0, 4.0]]))


@pytest.mark.parametrize(("steps", "rounded"), [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (126.6, 127)])
def test_halves_are_rounded_to_even(steps: float, rounded: int):
    assert quantized_weight(torch.tensor([[127.0, steps]])).tolist() == [[127.0, rounded]]


def test_a_channel_of_zeros_stays_zero():
    assert quantized_weight(torch.zeros(2, 3, 1, 1)).abs().max() == 0


def test_another_axis_has_the_channels():
    weight = torch.tensor([[100.0, 1.0], [127.0, 0.4]])
    torch.testing.assert_close(quantized_weight(weight, 1), torch.tensor([[100.0, 1.0], [127.0, 51 / 127]]))


def test_gradients_do_not_pass():
    assert not quantized_weight(torch.ones(2, 2, requires_grad=True)).requires_grad


@given(st.integers(0, 2**31), st.floats(1e-6, 1e6))
def test_the_quantizer_of_the_files_rounds_the_same(seed: int, size: float):
    quantizer = pytest.importorskip("ai_edge_quantizer.algorithms.uniform_quantize.uniform_quantize_tensor")
    qtyping = pytest.importorskip("ai_edge_quantizer.qtyping")
    weight = np.random.default_rng(seed).normal(0, size, (4, 3, 2, 2)).astype(np.float32)
    most = np.abs(weight).max((1, 2, 3), keepdims=True)
    zero, scale = quantizer.tensor_zp_scale_from_min_max(-most, most, 8, True, qtyping.QuantGranularity.CHANNELWISE)
    parameters = qtyping.UniformQuantParams(num_bits=8, quantized_dimension=0, scale=scale, zero_point=zero, symmetric=True)
    expected = quantizer.uniform_dequantize(quantizer.uniform_quantize(weight, parameters), parameters)
    np.testing.assert_allclose(quantized_weight(torch.from_numpy(weight)).numpy(), expected, rtol=1e-6)
