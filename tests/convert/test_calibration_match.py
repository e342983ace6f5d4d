"""Tensors of files found in the graph by their values, however converters lay them out, and nothing found that is not there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.bundle import Preprocess
from edgedistill.convert.calibration import match
from edgedistill.convert.graph import Graph, activations, prepare

PIXELS = np.random.default_rng(7).integers(0, 256, (4, 8, 6, 3), dtype=np.uint8)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stem = nn.Conv2d(3, 5, 3, padding=1)
        self.deep = nn.Conv2d(5, 5, 3, padding=1, groups=5)
        self.positive = nn.Conv2d(5, 5, 1)
        with torch.no_grad():
            self.positive.weight.abs_()
            self.positive.bias.fill_(1)
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = x + self.deep(x)
        return self.head(torch.relu(self.positive(torch.relu(x))).mean((2, 3)))


@pytest.fixture(scope="module")
def graph() -> Graph:
    return prepare(Small().eval(), Preprocess(height=8, width=6), mean=(0.5, 0.4, 0.3), std=(0.25, 0.25, 0.25), classes=3)


@pytest.fixture(scope="module")
def nodes(graph: Graph) -> dict[str, np.ndarray]:
    """Return each node's values on all images, as torch lays them out."""
    found: dict[str, np.ndarray] = {}
    activations(graph, PIXELS, lambda node, value: found.update({node.name: value.numpy().copy()}))
    return found


def node(nodes: dict[str, np.ndarray], kind: str, place: int = 0) -> str:
    return [name for name in nodes if name.startswith(kind)][place]


LAYOUTS = {
    "channels first": lambda value: value,
    "channels last": lambda value: value.transpose(0, 2, 3, 1),
    "flat": lambda value: value.reshape(len(value), -1),
    "flat, channels last": lambda value: value.transpose(0, 2, 3, 1).reshape(len(value), -1),
    "summed in another order": lambda value: value * (1 + 1e-5 * np.sin(np.arange(value.size)).reshape(value.shape).astype(np.float32)),
    "padded": lambda value: np.pad(value, ((0, 0), (0, 0), (1, 1), (1, 1))),
    "padded, channels last": lambda value: np.pad(value.transpose(0, 2, 3, 1), ((0, 0), (1, 1), (1, 1), (0, 0))),
    "padded on one side": lambda value: np.pad(value.transpose(0, 2, 3, 1), ((0, 0), (0, 1), (0, 1), (0, 0))),
    "padded with another channel": lambda value: np.pad(value.transpose(0, 2, 3, 1), ((0, 0), (0, 0), (0, 0), (0, 1)), constant_values=153),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("kind", "place"), [("conv2d", 0), ("relu", 0), ("add", 0), ("conv2d", 1)])
def test_a_tensor_is_found_in_every_layout(graph: Graph, nodes: dict[str, np.ndarray], layout: str, kind: str, place: int) -> None:
    name = node(nodes, kind, place)
    assert match(graph, {"tensor": LAYOUTS[layout](nodes[name])}, PIXELS) == {"tensor": name}


@pytest.mark.parametrize("images", [1, 2, 4])
def test_as_many_images_are_looked_at_as_the_tensors_have(graph: Graph, nodes: dict[str, np.ndarray], images: int) -> None:
    names = [node(nodes, "mean"), node(nodes, "linear"), node(nodes, "add")]
    assert match(graph, {name.upper(): nodes[name][:images] for name in names}, PIXELS) == {name.upper(): name for name in names}


@pytest.mark.parametrize(
    "value",
    [
        lambda value: value + 0.02 * np.abs(value).max(),
        lambda value: value * 1.05,
        lambda value: value[:, :2],
        lambda value: value[:, ::-1],
        lambda value: np.pad(value, ((0, 0), (0, 0), (1, 1), (1, 1)), "edge"),
        lambda value: np.pad(value, ((0, 0), (0, 0), (12, 12), (0, 0))),
        lambda value: value[:0],
    ],
)
def test_what_is_no_node_stays_out(graph: Graph, nodes: dict[str, np.ndarray], value) -> None:
    assert match(graph, {"tensor": value(nodes[node(nodes, "conv2d")])}, PIXELS) == {}


def test_nothing_to_match(graph: Graph) -> None:
    assert match(graph, {}, PIXELS) == {}


def test_of_nodes_with_the_same_values_it_is_the_last(graph: Graph, nodes: dict[str, np.ndarray]) -> None:
    before, after = node(nodes, "conv2d", 2), node(nodes, "relu", 2)
    assert nodes[before].min() > 0
    assert np.array_equal(nodes[before], nodes[after])
    assert match(graph, {"fused": nodes[before]}, PIXELS) == {"fused": after}


def test_the_input_is_a_node_and_its_copy_in_another_layout_its_last_mover(graph: Graph, nodes: dict[str, np.ndarray]) -> None:
    found = match(graph, {"pixels": nodes[next(iter(nodes))]}, PIXELS)
    assert found["pixels"] in list(nodes)[:2]


def test_the_constant_channel_is_a_node_of_its_own(graph: Graph, nodes: dict[str, np.ndarray]) -> None:
    four = [name for name, value in nodes.items() if value.shape[-1] == 4 or value.shape[1] == 4]
    found = match(graph, {"four": nodes[four[0]]}, PIXELS)
    assert found["four"] in four
