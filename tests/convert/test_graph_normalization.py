"""Normalization in the first convolution's weights: exact to float noise everywhere, most of all where the image is padded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgedistill.bundle import Preprocess
from edgedistill.convert.graph import Graph, centred, prepare
from edgedistill.convert.graph.normalization import in_pixels
from edgedistill.recipe import HALF_MEAN, HALF_STD

#: Torch advises against an even 'same' padding; the graph spells it out.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
WHOLE = {"mean": HALF_MEAN, "std": HALF_STD}
HALVES = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
BLACK = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
DEVIATIONS = {"mean": (51 / 255,) * 3, "std": (0.1, 0.5, 0.9)}
BRIGHT = {"mean": (1.0, 1.0, 0.995), "std": (0.3, 0.2, 0.1)}
SPEC = Preprocess(height=7, width=9)


class Map(nn.Module):
    """Gives every value of the first convolution as a logit, so that each pixel of the border is compared."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).flatten(1)


def first(**options) -> nn.Conv2d:
    return nn.Conv2d(3, 4, **({"kernel_size": 3, "padding": 1} | options))


FIRST = {
    "padded": lambda: [first()],
    "strided": lambda: [first(stride=2)],
    "without padding": lambda: [first(padding=0)],
    "padded more below": lambda: [nn.ZeroPad2d((0, 1, 0, 1)), first(padding=0, stride=2)],
    "padded twice": lambda: [nn.ZeroPad2d(2), first(padding=(2, 0))],
    "dilated": lambda: [first(dilation=2, padding=2)],
    "same": lambda: [first(kernel_size=4, padding="same")],
    "with a batch norm": lambda: [first(bias=False), nn.BatchNorm2d(4).eval()],
    "of one pixel": lambda: [first(kernel_size=1, padding=1)],
}


def graph_of(student: nn.Module, normalization: dict) -> Graph:
    with torch.inference_mode():
        classes = student(torch.zeros(1, 3, SPEC.height, SPEC.width)).shape[1]
    return prepare(student, SPEC, **normalization, classes=classes)


def largest_error(graph: Graph, student: nn.Module, normalization: dict) -> float:
    """Return the largest difference from double precision, in parts of the largest value."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, SPEC.height, SPEC.width, 3), dtype=np.uint8)
    pixels[0, 0], pixels[0, -1], pixels[1, :, 0], pixels[1, :, -1] = 0, 255, 255, 0
    mean, std = (torch.tensor(normalization[key], dtype=torch.float64) for key in ("mean", "std"))
    normalized = ((torch.from_numpy(pixels).double() / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.inference_mode():
        found = graph.module(centred(graph, pixels)).double()
        truth = student.double()(normalized)
    return float((found - truth).abs().max() / truth.abs().max())


@pytest.mark.parametrize("normalization", [WHOLE, HALVES, IMAGENET], ids=["whole", "halves", "imagenet"])
@pytest.mark.parametrize("layers", FIRST)
def test_it_is_exact_at_the_border(layers: str, normalization: dict) -> None:
    torch.manual_seed(0)
    student = Map(*FIRST[layers]()).eval()
    graph = graph_of(student, normalization)
    assert graph.folded
    assert largest_error(graph, student, normalization) < 3e-6


@pytest.mark.parametrize("normalization", [BLACK, DEVIATIONS, BRIGHT], ids=["black", "deviations", "bright"])
def test_it_is_exact_for_other_means(normalization: dict) -> None:
    torch.manual_seed(0)
    student = Map(first()).eval()
    graph = graph_of(student, normalization)
    assert graph.folded
    assert largest_error(graph, student, normalization) < 3e-6


@pytest.mark.parametrize(
    ("normalization", "pixel_mean", "fourth"),
    [(WHOLE, 128, None), (HALVES, 128, -128.0), (IMAGENET, 114, 141.0), (BLACK, 0, None), (DEVIATIONS, 51, None), (BRIGHT, 255, -255.0)],
    ids=["whole", "halves", "imagenet", "black", "deviations", "bright"],
)
def test_a_fourth_channel_only_where_the_means_need_it(normalization: dict, pixel_mean: int, fourth: float | None) -> None:
    graph = graph_of(Map(first()).eval(), normalization)
    padded = [node for node in graph.module.graph.nodes if node.target is torch.ops.aten.constant_pad_nd.default]
    assert graph.pixel_mean == pixel_mean
    assert [node.args[1:] for node in padded] == ([] if fourth is None else [([0, 1], fourth)])
    # A value of the camera's range: it must not widen what the input's 8 bits hold.
    assert fourth is None or -pixel_mean <= fourth <= 255 - pixel_mean


@pytest.mark.parametrize(
    "layers",
    [
        [first(groups=1, padding_mode="replicate")],
        [nn.Conv2d(3, 6, 3, groups=3, padding=1)],
        [nn.ConstantPad2d(1, -2.0), first(padding=0)],
        [nn.ReLU(), first()],
        [nn.ConstantPad3d((0, 0, 0, 0, 0, 1), 0.0), nn.Conv2d(4, 4, 3)],
        [nn.MaxPool2d(2), first()],
    ],
    ids=["replicated", "groups", "padded with a number", "relu", "channel padded", "pooled"],
)
def test_what_cannot_be_folded_stands_in_front_and_is_right(layers: list[nn.Module]) -> None:
    torch.manual_seed(0)
    student = Map(*layers).eval()
    graph = graph_of(student, IMAGENET)
    assert not graph.folded
    assert largest_error(graph, student, IMAGENET) < 3e-6


unit = st.floats(0, 1)
deviation = st.floats(0.05, 1)


@given(mean=st.tuples(unit, unit, unit), std=st.tuples(deviation, deviation, deviation))
@settings(max_examples=200)
def test_a_centred_pixel_is_the_normalized_one(mean: tuple, std: tuple) -> None:
    common, offsets, deviations = in_pixels(mean, std)
    pixels = torch.arange(256, dtype=torch.float64)[:, None]
    found = (pixels - common - offsets) / deviations
    truth = (pixels / 255 - torch.tensor(mean, dtype=torch.float64)) / torch.tensor(std, dtype=torch.float64)
    assert 0 <= common <= 255
    assert abs(common - 255 * sum(mean) / 3) <= 0.51
    assert torch.allclose(found, truth, atol=1e-4, rtol=1e-6)
