"""An 8-bit file in torch: what is rounded, where and how."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_graphs import graph_of, minmax, pixels, set_weight
from torch import nn

from edgedistill.convert.correct.simulate import quantized, simulated_logits, stored
from edgedistill.convert.graph import logits_of
from edgedistill.convert.graph.softmax import with_softmax

HEAD = (nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (0.0, -1.0, 254.0, 0.0),
        (3.4, 0.0, 255.0, 3.0),
        (2.5, 0.0, 255.0, 2.0),
        (300.0, 0.0, 255.0, 255.0),
        (-4.0, 0.0, 255.0, 0.0),
        (-300.0, -100.0, 155.0, -100.0),
        (0.0, -0.3, 254.7, 0.0),
        (0.0, 0.0, 0.0, 0.0),
    ],
)
def test_a_value_in_8_bits(value: float, low: float, high: float, expected: float):
    assert quantized(torch.tensor([value]), low, high).tolist() == [expected]


def test_values_are_stored_where_operators_are_not_fused():
    layers = (nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.Conv2d(4, 4, 1), nn.Hardswish(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 1))
    graph = graph_of(*layers, *HEAD, classes=2)
    names = [node.name for node in graph.module.graph.nodes if stored(node)]
    assert names == ["hardtanh", "conv2d_1", "hardswish", "conv2d_2", "adaptive_avg_pool2d"]


def test_without_ranges_only_weights_are_rounded():
    layer = set_weight(nn.Conv2d(3, 2, 1), [[127, 0.4, 0], [0, 1.6, 127]], [0.3, 0.2])
    graph = graph_of(layer, *HEAD, classes=2)
    exact = graph_of(set_weight(nn.Conv2d(3, 2, 1), [[127, 0, 0], [0, 2, 127]], [0.3, 0.2]), *HEAD, classes=2)
    np.testing.assert_allclose(simulated_logits(graph, {}, pixels(5), batch_size=2), logits_of(exact, pixels(5)), rtol=1e-6)


def test_the_layer_of_the_logits_is_float():
    classifier = set_weight(nn.Linear(2, 2), [[127, 0.4], [0.4, 127]], [0.3, 0.2])
    graph = graph_of(set_weight(nn.Conv2d(3, 2, 1), [[127, 1, 0], [0, 1, 127]], [0.0, 0.0]), *HEAD, classifier, classes=2)
    np.testing.assert_allclose(simulated_logits(graph, {"linear": (0.0, 1.0)}, pixels(5)), logits_of(graph, pixels(5)), rtol=1e-6)
    with_scores = with_softmax(graph)
    assert not any(stored(node) for node in with_scores.module.graph.nodes if node.name == "linear")


def test_a_stored_value_is_a_whole_number_of_steps():
    graph = graph_of(nn.Conv2d(3, 2, 1), *HEAD, set_weight(nn.Linear(2, 2), [[1, 0], [0, 1]], [0.0, 0.0]), classes=2)
    ranges = minmax(graph, pixels(5))
    low, high = ranges["adaptive_avg_pool2d"]
    steps = simulated_logits(graph, ranges, pixels(5)) / ((high - low) / 255)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
