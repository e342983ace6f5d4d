"""What is kept of a graph's values: the same for every order of the images and every size of batch, and exactly what numpy counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgedistill.bundle import Preprocess
from edgedistill.convert.calibration import images_sha256, observe, ranges_of
from edgedistill.convert.calibration.observe import BINS
from edgedistill.convert.graph import Graph, activations, copy_of, prepare
from edgedistill.errors import ConvertError

SPEC = Preprocess(height=8, width=8)
PIXELS = np.random.default_rng(5).integers(0, 256, (23, 8, 8, 3), dtype=np.uint8)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.deep = nn.Conv2d(6, 6, 3, groups=6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.deep(nn.functional.hardswish(self.conv(x)))).mean((2, 3)))


@pytest.fixture(scope="module")
def graph() -> Graph:
    return prepare(Small().eval(), SPEC, mean=(0.5, 0.4, 0.3), std=(0.25, 0.25, 0.25), classes=3)


def values_of(graph: Graph, name: str) -> np.ndarray:
    """Return (N, ...) values of the last node whose name starts so."""
    found: dict[str, np.ndarray] = {}
    activations(graph, PIXELS, lambda node, value: found.update({node.name: value.numpy().copy()}), batch_size=len(PIXELS))
    return next(value for key, value in reversed(found.items()) if key.startswith(name))


@settings(max_examples=5, deadline=None)
@given(order=st.permutations(range(len(PIXELS))), batch_size=st.sampled_from([64, 32]))
def test_the_order_of_images_does_not_show(graph: Graph, order: list[int], batch_size: int) -> None:
    expected = observe(graph, PIXELS, batch_size=batch_size)
    found = observe(graph, PIXELS[order], batch_size=batch_size)
    assert found.images_sha256 == expected.images_sha256
    for method in ("minmax", "percentile", "mse"):
        assert ranges_of(found, method) == ranges_of(expected, method)


@pytest.mark.parametrize("batch_size", [1, 4, 22])
def test_the_size_of_batches_shows_in_the_last_bits_only(graph: Graph, batch_size: int) -> None:
    expected, found = observe(graph, PIXELS), observe(graph, PIXELS, batch_size=batch_size)
    for method, tolerance in (("minmax", 1e-5), ("percentile", 1e-5), ("mse", 2 / BINS)):
        ranges = ranges_of(found, method)
        for name, (low, high) in ranges_of(expected, method).items():
            assert ranges[name] == pytest.approx((low, high), rel=tolerance, abs=tolerance * (high - low)), name


def test_input_and_every_operator_are_there_in_the_order_of_the_graph(graph: Graph) -> None:
    found = observe(graph, PIXELS, histograms=False)
    nodes = [node.name for node in graph.module.graph.nodes if node.op in ("placeholder", "call_function")]
    assert list(found.values) == list(found.rules) == nodes
    assert found.images == len(PIXELS)
    low, high = ranges_of(found, "minmax")[nodes[0]]
    assert (low, high) == (-graph.pixel_mean, 255 - graph.pixel_mean)


def test_extremes_and_histograms_are_those_of_numpy(graph: Graph) -> None:
    logits = values_of(graph, "linear")
    name = next(node.name for node in graph.module.graph.nodes if node.name.startswith("linear"))
    found = observe(graph, PIXELS).values[name]
    assert np.sort(found.lows) == pytest.approx(np.sort(logits.min(1)), abs=1e-4)
    assert np.sort(found.highs) == pytest.approx(np.sort(logits.max(1)), abs=1e-4)
    low, high = -logits.min(), logits.max()
    assert found.below is not None
    assert found.above is not None
    assert found.below.sum() + found.above.sum() == np.count_nonzero(logits)
    for counts, side, largest in ((found.below, -logits, low), (found.above, logits, high)):
        expected = np.histogram(side[side > 0], BINS, (0, largest))[0] if largest > 0 else np.zeros(BINS)
        assert np.abs(np.cumsum(counts) - np.cumsum(expected)).max() <= 1  # a value on the border of two bins


def test_zeros_are_in_no_histogram(graph: Graph) -> None:
    relu = values_of(graph, "relu")
    name = next(node.name for node in graph.module.graph.nodes if node.name.startswith("relu"))
    found = observe(graph, PIXELS).values[name]
    assert (relu == 0).any()
    assert found.below is not None
    assert found.above is not None
    assert found.below.sum() == 0
    assert found.above.sum() == np.count_nonzero(relu)


def test_values_that_the_next_operator_does_not_see_do_not_count(graph: Graph) -> None:
    convolution = values_of(graph, "conv2d")
    assert convolution.min() < 0  # in front of a ReLU
    found = observe(graph, PIXELS)
    for method in ("minmax", "percentile", "mse"):
        names = [name for name in found.values if name.startswith("conv2d")]
        first, last = (ranges_of(found, method)[name] for name in (names[0], names[-1]))
        assert last.low == 0
        assert -3 <= first.low < 0  # in front of a hard-swish


def test_no_histograms_where_none_are_asked_for(graph: Graph) -> None:
    found = observe(graph, PIXELS, histograms=False)
    assert all(item.below is None and item.above is None for item in found.values.values())


def test_progress_is_told_before_each_pass(graph: Graph) -> None:
    told: list[str] = []
    observe(graph, PIXELS, progress=told.append)
    assert [text.partition(": ")[0] for text in told] == ["calibrating on 23 images"] * 2


def test_values_that_are_not_finite_name_the_layer(graph: Graph) -> None:
    broken = copy_of(graph)
    deep = next(node for node in broken.module.graph.nodes if broken.layers.get(node.name) == "deep")
    broken.module.get_parameter(str(deep.args[1].target)).fill_(3e38)
    with pytest.raises(ConvertError, match=r"layer deep gives values that are not finite"):
        observe(broken, PIXELS)


def test_the_student_stays_as_it_is(graph: Graph) -> None:
    before = {name: value.clone() for name, value in graph.module.state_dict().items()}
    observe(graph, PIXELS)
    assert all(torch.equal(value, before[name]) for name, value in graph.module.state_dict().items())


def test_checksum_of_images_tells_images_apart_but_not_their_order() -> None:
    changed = PIXELS.copy()
    changed[0, 0, 0, 0] ^= 1
    checksums = {images_sha256(PIXELS), images_sha256(changed), images_sha256(PIXELS[1:]), images_sha256(PIXELS.reshape(23, 4, 16, 3))}
    assert len(checksums) == 4
    assert images_sha256(PIXELS[::-1]) == images_sha256(PIXELS)
    assert all(len(checksum) == 64 for checksum in checksums)
