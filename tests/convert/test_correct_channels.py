"""Which tensors of a network share their channels."""

from __future__ import annotations

import pytest
import small_graphs
import torch
from small_graphs import SPEC, graph_of
from torch import nn

from edgedistill.convert.correct.channels import by_input_channel, groups_of, shapes_of
from edgedistill.convert.graph import Graph, prepare


def conv(inputs: int = 4, outputs: int = 4, kernel: int = 1, **options) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def counts(graph: Graph) -> list[tuple[int, int, int, list[float]]]:
    """Return writers, readers, nodes and clips of each group."""
    return [(len(group.writers), len(group.readers), len(group.nodes), group.clips) for group in groups_of(graph)]


HEAD = (nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        ((), [(1, 1, 1, [])]),
        ((nn.ReLU(),), [(1, 1, 2, [])]),
        ((nn.ReLU(inplace=True),), [(1, 1, 2, [])]),
        ((nn.ReLU6(),), [(1, 1, 2, [6.0])]),
        ((nn.Hardtanh(0.0, 4.0),), [(1, 1, 2, [4.0])]),
        ((nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2)), [(1, 1, 4, [])]),
        ((nn.ReLU(), nn.ZeroPad2d(1)), [(1, 1, 3, [])]),
        ((nn.ReLU(), nn.Dropout(), nn.Identity()), [(1, 1, 2, [])]),
        ((nn.Hardtanh(),), []),
        ((nn.Hardswish(),), []),
        ((nn.Sigmoid(),), []),
        ((nn.SiLU(),), []),
        ((nn.ConstantPad2d(1, 1.0),), []),
        ((nn.BatchNorm2d(4), nn.ReLU()), [(1, 1, 2, [])]),
        ((nn.ReLU(), nn.BatchNorm2d(4)), []),
        ((nn.Hardsigmoid(),), []),
    ],
)
def test_operators_between_two_layers(between: tuple[nn.Module, ...], expected: list):
    graph = graph_of(conv(3), *between, conv(4, 2), nn.Hardswish(), *HEAD, classes=2)
    assert counts(graph) == expected


def test_pooled_and_flattened_channels_reach_the_classifier():
    graph = graph_of(conv(3), nn.ReLU(), *HEAD, nn.Linear(4, 5), classes=5)
    assert counts(graph) == [(1, 1, 4, [])]


class Wired(nn.Module):
    """A stem of 4 channels, something that a case gives, and a head."""

    def __init__(self, wiring: str) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.gate, self.last = conv(3), conv(), conv(), conv(), nn.Linear(4, 2)
        self.wiring = wiring
        self.register_buffer("shift", torch.ones(4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.last(getattr(self, self.wiring)(x).mean((2, 3)))

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.a(x)

    def rectified_residual(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.b(torch.relu(self.a(x))))

    def stream(self, x: torch.Tensor) -> torch.Tensor:
        y = x + self.a(x)
        return y + self.b(y)

    def gated(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(x)
        return x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))

    def self_gated(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(x)

    def shifted(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.shift

    def plus_number(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1.0

    def weighted_sum(self, x: torch.Tensor) -> torch.Tensor:
        return torch.add(x, self.a(x), alpha=2)

    def halved(self, x: torch.Tensor) -> torch.Tensor:
        return x * 0.5 / 2

    def negated(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x * -1.0)

    def joined(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[:, :2], self.a(x)[:, 2:]], 1)

    def also_read(self, x: torch.Tensor) -> torch.Tensor:
        return self.a(x) + nn.functional.hardswish(x)


@pytest.mark.parametrize(
    ("wiring", "expected"),
    [
        ("residual", [(2, 2, 4, [])]),
        ("rectified_residual", [(2, 2, 5, []), (1, 1, 2, [])]),
        ("stream", [(3, 3, 6, [])]),
        ("gated", [(1, 2, 5, [])]),
        ("self_gated", []),
        ("shifted", []),
        ("plus_number", []),
        ("weighted_sum", []),
        ("halved", [(1, 1, 4, [])]),
        ("negated", []),
        ("joined", []),
        ("also_read", []),
    ],
)
def test_what_is_wired_together_is_one_group(wiring: str, expected: list):
    graph = prepare(Wired(wiring), SPEC, mean=small_graphs.MEAN, std=small_graphs.STD, classes=2)
    assert sorted(counts(graph)) == sorted(expected)


def test_the_input_and_the_logits_are_never_scaled():
    graph = graph_of(conv(3, 2, 8), nn.Flatten(), classes=2 * 9 * 9)
    assert groups_of(graph) == []


def test_shapes_are_those_of_one_image():
    graph = graph_of(conv(3), nn.ReLU(), *HEAD, classes=4)
    assert [shape for node, shape in shapes_of(graph).items() if node.name.startswith(("conv", "flatten"))] == [(1, 4, 8, 8), (1, 4)]


@pytest.mark.parametrize(
    ("layer", "channels", "shape"),
    [
        (conv(6, 4, 3), 6, (1, 4, 6, 9)),
        (conv(6, 6, 3, groups=6), 6, (6, 1, 1, 9)),
        (conv(6, 4, 1, groups=2), 6, (2, 2, 3, 1)),
        (nn.Linear(12, 5), 3, (1, 5, 3, 4)),
    ],
)
def test_weights_are_seen_by_input_channel(layer: nn.Module, channels: int, shape: tuple[int, ...]):
    first = nn.Conv2d(3, channels, 2, stride=4)
    flat = (nn.Flatten(),) if isinstance(layer, nn.Linear) else ()
    last = () if flat else (nn.Flatten(),)
    classes = 5 if flat else layer.out_channels * 4
    graph = graph_of(first, *flat, layer, *last, classes=classes)
    node = next(node for node in reversed(graph.module.graph.nodes) if node.target in small_graphs.LAYERS)
    assert by_input_channel(node, layer.weight.detach(), channels).shape == shape
