"""Bias correction: known shifts are taken off exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_graphs import LAYERS, graph_of, minmax, pixels, set_weight
from torch import nn

from edgedistill.convert.correct import bias as bias_module
from edgedistill.convert.correct.bias import correct_bias
from edgedistill.convert.correct.simulate import simulated_logits
from edgedistill.convert.graph import Graph, logits_of
from edgedistill.convert.graph.batch_norm import weights_of

HEAD = (nn.AdaptiveAvgPool2d(1), nn.Flatten())


def biases(graph: Graph) -> list[list[float]]:
    return [weights_of(graph.module, node)[1].tolist() for node in graph.module.graph.nodes if node.target in LAYERS]


def flat(value: int, count: int = 4) -> np.ndarray:
    """Return images that are `value` above the mean everywhere."""
    return np.full((count, 8, 8, 3), 128 + value, np.uint8)


@pytest.fixture(scope="module")
def rounded() -> Graph:
    """Return a graph whose first layer's rows are steps of 1 of 127: 0.4 is rounded to 0, 0.75 to 1; those of the second are exact."""
    first = set_weight(nn.Conv2d(3, 2, 1), [[127, 0.4, 0], [0.75, 0, 127]], [5.0, -6.0])
    second = set_weight(nn.Conv2d(2, 2, 1), [[127, 0], [1, 127]], [7.0, 8.0])
    return graph_of(first, nn.ReLU(), second, *HEAD, classes=2)


def test_what_rounded_weights_lose_comes_back_in_the_bias(rounded: Graph):
    first, second = biases(correct_bias(rounded, {}, flat(10)))
    assert first == pytest.approx([5 + 0.4 * 10, -6 - 0.25 * 10], abs=1e-4)
    # What the second layer reads is right already, and its own weights lose nothing.
    assert second == pytest.approx([7, 8], abs=1e-2)


def test_the_answers_on_these_images_are_those_of_the_float_graph(rounded: Graph):
    expected = logits_of(rounded, flat(10))
    assert np.abs(simulated_logits(rounded, {}, flat(10)) - expected).max() > 100
    np.testing.assert_allclose(simulated_logits(correct_bias(rounded, {}, flat(10)), {}, flat(10)), expected, rtol=1e-6)


def test_what_a_range_clips_comes_back_in_the_next_layer(rounded: Graph):
    # After correction the first layer gives 1279 and 1271.5; a range up to 1275, in steps of 5, has 1275 and 1270 of them.
    first, second = biases(correct_bias(rounded, {"relu": (0.0, 1275.0)}, flat(10)))
    assert first == pytest.approx([5 + 0.4 * 10, -6 - 0.25 * 10], abs=1e-4)
    true = np.array([1270 + 4 + 5, 7.5 + 1270 - 6])
    lost = true - np.array([1275, 1270])
    assert second == pytest.approx([7 + 127 * lost[0], 8 + lost[0] + 127 * lost[1]], rel=1e-5)


def test_the_mean_of_every_logit_is_right_on_noise():
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3, padding=1), nn.ReLU6(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Hardswish(), nn.Conv2d(8, 4, 1))
    graph = graph_of(*layers, *HEAD, nn.Linear(4, 3, bias=False), classes=3)
    images = pixels(32)
    ranges = minmax(graph, images)
    shifts = [
        np.abs((simulated_logits(other, ranges, images) - logits_of(graph, images)).mean(0)).max()
        for other in (graph, correct_bias(graph, ranges, images))
    ]
    # The logits' own rounding is not a layer's and stays.
    assert shifts[0] > 1e-3
    assert shifts[1] < 1e-4 * np.abs(logits_of(graph, images)).max()
    assert [node.target for node in graph.module.graph.nodes if node.op == "call_function"] == [
        node.target for node in correct_bias(graph, ranges, images).module.graph.nodes if node.op == "call_function"
    ]


def test_the_given_graph_stays_as_it_is(rounded: Graph):
    before = biases(rounded)
    correct_bias(rounded, minmax(rounded, flat(10)), flat(10))
    assert biases(rounded) == before


def test_as_many_images_are_looked_at_as_fit_in_memory(rounded: Graph, monkeypatch: pytest.MonkeyPatch):
    images = np.concatenate([flat(10, 1), flat(50, 1), flat(30, 1)])
    monkeypatch.setattr(bias_module, "_MOST_VALUES", 2 * 8 * 8 * 3)
    # The first and the last of the three: 20 above the mean on average.
    assert biases(correct_bias(rounded, {}, images))[0] == pytest.approx([5 + 0.4 * 20, -6 - 0.25 * 20], abs=1e-4)
    monkeypatch.setattr(bias_module, "_MOST_VALUES", 1)
    assert biases(correct_bias(rounded, {}, images))[0] == pytest.approx([5 + 0.4 * 10, -6 - 0.25 * 10], abs=1e-4)
