"""Fake quantization: values and gradients by hand; against the real int8 kernels it is held in test_aware_kernels."""

from __future__ import annotations

import numpy as np
import pytest
import small_graphs
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgedistill.convert import calibration
from edgedistill.convert.aware import Points, fake_quantized, learned, ranged
from edgedistill.convert.aware.fake_quant import (
    LEARNED,
    RANGES,
    UNIT,
    _Rounded,
    ends_of,
    fake_average,
    fake_bias,
    fake_value,
    fake_weight,
    steps_of,
)
from edgedistill.convert.calibration import Range
from edgedistill.convert.graph import Graph, centred, logits_of
from edgedistill.errors import ConvertError

#: One step is worth 0.5, zero is stored as -28: values from -50 to 77.5 fit.
STEPS = torch.tensor([[0.5, -28.0]])


@pytest.fixture(scope="module")
def small() -> Graph:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 1),
        nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    ]
    return small_graphs.graph_of(*layers, classes=3)


@pytest.fixture(scope="module")
def ranges(small: Graph) -> dict[str, Range]:
    return calibration.ranges_of(calibration.observe(small, small_graphs.pixels(), histograms=False), "minmax")


#: Where TFLite would round `small`: hard-swish and the last layer are computed in float.
NAMES = ("permute", "relu", "conv2d_1", "hardswish", "flatten")
POINTS = Points(stored={name: name for name in NAMES}, floating=frozenset({"hardswish", "linear"}))


@pytest.mark.parametrize(
    ("value", "expected", "of_value", "of_scale", "of_zero"),
    [
        (0.0, 0.0, 1, 0, 0),
        (0.7, 0.5, 1, 1 - 1.4, 0),
        (0.75, 1.0, 1, 2 - 1.5, 0),  # 1.5 steps: a half goes to the even one
        (1.25, 1.0, 1, 2 - 2.5, 0),
        (77.5, 77.5, 1, 0, 0),
        (77.7, 77.5, 1, 155 - 155.4, 0),
        (100.0, 77.5, 0, 155, -0.5),
        (-50.0, -50.0, 1, 0, 0),
        (-60.0, -50.0, 0, -100, -0.5),
    ],
)
def test_a_value_and_its_gradients(value: float, expected: float, of_value: float, of_scale: float, of_zero: float) -> None:
    values, scale, zero = (torch.tensor(number, requires_grad=True) for number in (value, 0.5, -28.0))
    rounded = _Rounded.apply(values, scale, zero)
    rounded.backward()
    assert rounded.item() == expected
    assert [values.grad.item(), scale.grad.item(), zero.grad.item()] == pytest.approx([of_value, of_scale, of_zero], abs=1e-4)


def test_gradients_sum_over_a_tensor_and_stop_where_ranges_are_frozen() -> None:
    values, scale, zero = torch.tensor([0.7, 100.0, -60.0], requires_grad=True), torch.tensor(0.5, requires_grad=True), torch.tensor(-28.0)
    (_Rounded.apply(values, scale, zero) * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert scale.grad.item() == pytest.approx(-0.4 + 2 * 155 - 3 * 100)
    assert values.grad.tolist() == [1, 0, 0]
    frozen = torch.tensor([0.7], requires_grad=True)
    _Rounded.apply(frozen, scale.detach(), zero).sum().backward()
    assert frozen.grad.tolist() == [1]


@pytest.mark.parametrize(
    ("value", "of_low", "of_high"),
    [
        (90.0, 0, 1),  # clipped above: all of the gradient goes to the upper end, as PACT has it
        (-90.0, 1, 0),
        (0.25 + 1e-3, -(1 - 0.502) / 255, (1 - 0.502) / 255),  # inside, a wider range makes this value's step larger
    ],
)
def test_the_gradient_of_a_ranges_ends(value: float, of_low: float, of_high: float) -> None:
    low, high, unit = -50.0, 77.5, torch.ones(1, 1)
    ends = torch.tensor([[low, high]], requires_grad=True)
    fake_value(torch.tensor(value), steps_of(ends, unit), 0).backward()
    assert ends.grad.flatten().tolist() == pytest.approx([of_low, of_high], abs=1e-5)


@given(low=st.floats(-1e4, 0, width=32), high=st.floats(0, 1e4, width=32))
def test_scale_and_zero_point_are_the_quantizers(low: float, high: float) -> None:
    quantizer = pytest.importorskip("ai_edge_quantizer.algorithms.uniform_quantize.uniform_quantize_tensor")
    from ai_edge_quantizer import qtyping

    expected_zero, expected_scale = quantizer.tensor_zp_scale_from_min_max(
        np.float32([low]), np.float32([high]), 8, symmetric=False, granularity=qtyping.QuantGranularity.TENSORWISE
    )
    scale, zero = steps_of(torch.tensor([[low, high]]), torch.ones(1, 1))[0].tolist()
    assert np.float32(scale) == expected_scale[0]
    assert zero == expected_zero[0]


def test_ends_never_cross_zero() -> None:
    assert ends_of(torch.tensor([[0.1, 0.5], [-1.0, -0.2]]), torch.tensor([[2.0], [4.0]])).tolist() == [[0, 1], [-4, 0]]


@pytest.mark.parametrize(
    ("average", "expected"),
    [
        (-13.75, -14.0),  # -55.5 as it is stored, half way: away from the integer 0
        (13.75, 13.5),  # -0.5
        (14.25, 14.5),  # 0.5
        (14.25 - 1e-5, 14.5),  # a float sum that is a little off
        (14.0, 14.0),
        (0.2, 0.0),
    ],
)
def test_halves_of_averages_go_away_from_the_stored_zero(average: float, expected: float) -> None:
    value = torch.tensor(average, requires_grad=True)
    rounded = fake_average(value, STEPS, 0)
    rounded.backward()
    assert rounded.item() == expected
    assert value.grad.item() == 1


def test_weights_are_rounded_by_channel_and_pass_their_gradient() -> None:
    weight = torch.tensor([[1.27, 0.013, -0.5], [0.0, 0.0, 0.0], [-127.0, 1.5, 2.5]], requires_grad=True)
    rounded = fake_weight(weight)
    rounded.backward(torch.arange(9.0).reshape(3, 3))
    assert torch.allclose(rounded, torch.tensor([[1.27, 0.01, -0.5], [0, 0, 0], [-127, 2, 2]]))
    assert weight.grad.flatten().tolist() == list(range(9))


def test_biases_have_the_scale_of_input_times_weight() -> None:
    weight, bias = torch.tensor([[1.27], [2.54]]), torch.tensor([0.0124, 0.0124], requires_grad=True)
    rounded = fake_bias(bias, weight, STEPS, 0)
    rounded.sum().backward()
    assert torch.allclose(rounded, torch.tensor([2 * 0.005, 0.01]))
    assert bias.grad.tolist() == [1, 1]


def test_a_module_rounds_its_points_and_the_layers_between(small: Graph, ranges: dict[str, Range]) -> None:
    module = fake_quantized(small, ranges, POINTS)
    called = [node.target for node in module.graph.nodes if node.op == "call_function"]
    assert (called.count(fake_value), called.count(fake_weight), called.count(fake_bias)) == (len(NAMES), 2, 2)
    seen = {}
    for node in module.graph.nodes:
        if node.target is fake_value:
            seen[node.args[0].name] = node.args[2]
    assert seen == {name: row for row, name in enumerate(sorted(NAMES))}


def test_a_modules_answers_are_near_the_graphs_and_not_the_same(small: Graph, ranges: dict[str, Range]) -> None:
    pixels = small_graphs.pixels()
    expected = logits_of(small, pixels)
    with torch.no_grad():
        found = fake_quantized(small, ranges, POINTS)(centred(small, pixels)).numpy()
    assert 0 < np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def test_without_points_nothing_is_rounded(small: Graph, ranges: dict[str, Range]) -> None:
    pixels = small_graphs.pixels()
    with torch.no_grad():
        found = fake_quantized(small, ranges, Points(stored={}))(centred(small, pixels)).numpy()
    assert np.array_equal(found, logits_of(small, pixels))


def test_the_cameras_byte_and_the_zero_of_a_relu_are_not_learned(small: Graph, ranges: dict[str, Range]) -> None:
    module = fake_quantized(small, ranges, POINTS)
    mask = dict(zip(sorted(NAMES), getattr(module, LEARNED).tolist(), strict=True))
    assert mask == {
        "permute": [False, False],
        "relu": [False, True],
        **{name: [True, True] for name in ("conv2d_1", "hardswish", "flatten")},
    }
    scale, zero = steps_of(getattr(module, RANGES), getattr(module, UNIT))[sorted(NAMES).index("permute")].tolist()
    assert (scale, zero) == (1, small.pixel_mean - 128)


def test_a_point_without_a_range_is_named(small: Graph, ranges: dict[str, Range]) -> None:
    with pytest.raises(ConvertError, match="relu are stored in 8 bits and have no range"):
        fake_quantized(small, {name: value for name, value in ranges.items() if name != "relu"}, POINTS)


def test_what_was_learned_is_read_back_and_nothing_else_changes(small: Graph, ranges: dict[str, Range]) -> None:
    module = fake_quantized(small, ranges, POINTS)
    untouched = learned(module, small, ranges, POINTS)[1]
    assert all(untouched[name] == pytest.approx(ranges[name]) for name in ranges)
    with torch.no_grad():
        getattr(module, RANGES)[sorted(NAMES).index("flatten")] *= 2
        next(value for name, value in module.named_parameters() if name != RANGES).add_(1)
    before = {name: value.clone() for name, value in small.module.state_dict().items()}
    graph, found = learned(module, small, ranges, POINTS)
    # flatten only moves the average's values, so both have one range
    assert {name for name in found if found[name] != pytest.approx(ranges[name])} == {"flatten", "adaptive_avg_pool2d"}
    assert found["flatten"] == pytest.approx([2 * end for end in ranges["flatten"]])
    assert sum(not torch.equal(value, before[name]) for name, value in graph.module.state_dict().items()) == 1
    assert all(torch.equal(value, before[name]) for name, value in small.module.state_dict().items())


def test_nodes_that_only_move_a_points_values_have_its_range(small: Graph) -> None:
    assert ranged(small, POINTS) == {*NAMES, "adaptive_avg_pool2d", "pixels_nhwc"}


def test_in_double_precision_a_module_has_the_files_scales_and_whole_steps(small: Graph, ranges: dict[str, Range]) -> None:
    module = fake_quantized(small, ranges, POINTS)
    single = steps_of(getattr(module, RANGES), getattr(module, UNIT))
    pixels = centred(small, small_graphs.pixels())
    with torch.no_grad():
        expected = module(pixels)
        module.double()
        assert torch.equal(steps_of(getattr(module, RANGES), getattr(module, UNIT)), single.double())
        assert torch.allclose(module(pixels.double()), expected.double(), rtol=0.02, atol=0.02)
        weight = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)).double()
        scale = weight.float().abs().amax(1, keepdim=True) / 127
        whole = fake_weight(weight) / scale.double()
    assert torch.allclose(whole, whole.round(), rtol=0, atol=1e-12)
