"""Equalized channels: by hand on two channels, and the function kept on networks of all kinds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_graphs import LAYERS, MEAN, SPEC, STD, graph_of, pixels, set_weight
from torch import nn

from edgedistill.convert.correct.equalize import equalize
from edgedistill.convert.graph import Graph, activations, copy_of, logits_of, prepare
from edgedistill.convert.graph.batch_norm import weights_of
from edgedistill.convert.graph.rewrite import constant

HEAD = (nn.AdaptiveAvgPool2d(1), nn.Flatten())


def weights(graph: Graph) -> list[np.ndarray]:
    """Return the weights of the layers of a graph, in order, without axes of length 1 at the end."""
    return [weights_of(graph.module, node)[0].flatten(1).numpy() for node in graph.module.graph.nodes if node.target in LAYERS]


def biases(graph: Graph) -> list[np.ndarray]:
    return [weights_of(graph.module, node)[1].numpy() for node in graph.module.graph.nodes if node.target in LAYERS]


@pytest.fixture(scope="module")
def two_channels() -> Graph:
    """Return a graph of two layers and a ReLU, whose channels have the ranges 8 and 1/2, read with weights up to 2 and 1/2."""
    first = set_weight(nn.Conv2d(3, 2, 1), [[8, 0, 0], [0, 0.5, 0.25]], [16.0, 1.0])
    second = set_weight(nn.Conv2d(2, 2, 1), [[2, 0.5], [-1, 0.25]], [3.0, 4.0])
    return graph_of(first, nn.ReLU(), second, *HEAD, classes=2)


def test_the_factors_are_those_of_equation_11(two_channels: Graph):
    # r1 = (8, 1/2), r2 = (2, 1/2): s = sqrt(r1 / r2) = (2, 1), divided by its geometric mean.
    s = np.array([2, 1]) / np.sqrt(2)
    first, second = weights(equalize(two_channels))
    np.testing.assert_allclose(first, [[8 / s[0], 0, 0], [0, 0.5 / s[1], 0.25 / s[1]]], rtol=1e-6)
    np.testing.assert_allclose(second, np.array([[2, 0.5], [-1, 0.25]]) * s, rtol=1e-6)
    np.testing.assert_allclose(biases(equalize(two_channels))[0], [16, 1] / s, rtol=1e-6)
    np.testing.assert_allclose(biases(equalize(two_channels))[1], [3, 4], rtol=1e-6)


def test_a_second_equalization_finds_nothing_to_do(two_channels: Graph):
    once = equalize(two_channels)
    for before, after in zip(weights(once), weights(equalize(once)), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-3)


def test_the_given_graph_stays_as_it_is(two_channels: Graph):
    before = weights(two_channels), biases(two_channels)
    equalize(two_channels)
    equalize(two_channels, pixels())
    for old, new in zip((*before[0], *before[1]), (*weights(two_channels), *biases(two_channels)), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("silenced", ["written", "read"])
def test_a_channel_that_carries_nothing_keeps_its_weights(two_channels: Graph, silenced: str):
    graph = copy_of(two_channels)
    first, second = (constant(graph.module, node.args[1]) for node in graph.module.graph.nodes if node.target in LAYERS)
    if silenced == "written":
        first[1] = 0
    else:
        second[:, 1] = 0
    for images in (None, pixels()):
        result = equalize(graph, images)
        assert all(np.isfinite(value).all() for value in (*weights(result), *biases(result)))
        np.testing.assert_array_equal(weights(result)[0][1], weights(graph)[0][1])
        np.testing.assert_allclose(logits_of(result, pixels()), logits_of(graph, pixels()), rtol=1e-5)


class Mixed(nn.Module):
    """All that channels are equalized across, and hard-swish, across which they are not."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.ReLU())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 3, 1), nn.ReLU(), nn.Conv2d(3, 6, 1), nn.Hardsigmoid())
        self.project, self.expand = nn.Conv2d(6, 4, 1), nn.Conv2d(4, 8, 1, groups=2)
        self.back = nn.Conv2d(8, 4, 1)
        self.head = nn.Linear(4 * 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.depthwise(self.stem(x))
        x = self.project(x * self.gate(x))
        x = x + self.back(nn.functional.hardswish(self.expand(x)))
        return self.head(nn.functional.max_pool2d(torch.relu(x), 2).flatten(1))


@pytest.fixture(scope="module")
def mixed() -> Graph:
    torch.manual_seed(0)
    return prepare(Mixed(), SPEC, mean=MEAN, std=STD, classes=3)


@given(seed=st.integers(0, 2**31), spread=st.floats(0, 3), by_images=st.booleans())
@settings(max_examples=15, deadline=None)
def test_the_function_is_kept(mixed: Graph, seed: int, spread: float, by_images: bool):
    graph = drawn(mixed, seed, spread)
    images = pixels(8, seed=seed % 1000)
    before, after = logits_of(graph, images), logits_of(equalize(graph, images if by_images else None), images)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-4 * np.abs(before).max() + 1e-6)


def drawn(graph: Graph, seed: int, spread: float) -> Graph:
    """Return a copy of a graph with random weights whose channels differ by about e**spread."""
    result, generator = copy_of(graph), torch.Generator().manual_seed(seed)
    for node in result.module.graph.nodes:
        if node.target in LAYERS:
            weight, bias = (constant(result.module, argument) for argument in node.args[1:3])
            size = (spread * torch.randn(len(weight), generator=generator)).exp() / weight[0].numel() ** 0.5
            weight.copy_(torch.randn(weight.shape, generator=generator) * size.view(-1, *[1] * (weight.ndim - 1)))
            bias.copy_(torch.randn(bias.shape, generator=generator) * size)
    return result


def test_every_tensor_of_a_residual_stream_is_scaled_alike(mixed: Graph):
    graph = drawn(mixed, 3, 2.0)
    result = equalize(graph)
    factors = [reached(graph, name) / reached(result, name) for name in ("conv2d_4", "conv2d_6", "add")]
    assert factors[0].std() > 0.1
    for other in factors[1:]:
        np.testing.assert_allclose(other, factors[0], rtol=1e-4)


@pytest.fixture(scope="module")
def before_depthwise() -> Graph:
    """Return a graph with a depthwise layer, which is read by a pointwise one."""
    torch.manual_seed(1)
    layers = (nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    return graph_of(*layers, *HEAD, classes=2)


def test_channels_that_a_depthwise_layer_reads_reach_the_same_on_images(before_depthwise: Graph):
    most = reached(equalize(drawn(before_depthwise, 5, 2.0), pixels()), "relu")
    np.testing.assert_allclose(most[most > 0], most.max(), rtol=1e-4)


def reached(graph: Graph, name: str) -> np.ndarray:
    """Return the largest magnitude of each channel of a node on the images."""
    found: list[np.ndarray] = []
    activations(graph, pixels(), lambda node, value: found.append(value.abs().amax((0, 2, 3)).numpy()) if node.name == name else None)
    return np.max(found, axis=0)


@pytest.fixture(scope="module")
def clipped() -> Graph:
    """Return a graph whose first layer reaches its ReLU6's clip in one channel, 3 in another and 0.03 in the third."""
    first = set_weight(nn.Conv2d(3, 3, 1), [[0.1, 0, 0], [0, 3 / 127, 0], [0, 0, 0.03 / 127]])
    first.bias.data.zero_()
    return graph_of(first, nn.ReLU6(), nn.Conv2d(3, 3, 3, padding=1, groups=3), nn.ReLU(), *HEAD, classes=3)


def full(count: int = 4) -> np.ndarray:
    """Return images of noise in which every channel is once 255."""
    images = pixels(count)
    images[0, 0, 0] = 255
    return images


def test_channels_below_a_clip_are_scaled_up_and_others_stay(clipped: Graph):
    result = equalize(clipped, full())
    first = weights(result)[0]
    np.testing.assert_allclose(first[0], weights(clipped)[0][0])
    assert first[1, 1] * 127 == pytest.approx(0.9 * 6, rel=1e-4)
    assert first[2, 2] * 127 == pytest.approx(0.9 * 6, rel=1e-4)
    before = logits_of(clipped, full())
    np.testing.assert_allclose(logits_of(result, full()), before, atol=1e-5 * np.abs(before).max())


def test_without_images_the_groups_of_a_clip_stay(clipped: Graph):
    for before, after in zip(weights(clipped), weights(equalize(clipped)), strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_clip_is_still_one_operator(clipped: Graph):
    targets = [
        [node.target for node in graph.module.graph.nodes if node.op == "call_function"] for graph in (clipped, equalize(clipped, full()))
    ]
    assert targets[0] == targets[1]
