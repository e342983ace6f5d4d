"""The graph answers like the student: real architectures, odd layers, layers' names, and the student stays as it was."""

from __future__ import annotations

import copy

import blobs
import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from edgedistill.bundle import Preprocess
from edgedistill.convert.graph import Graph, activations, centred, copy_of, logits_of, prepare
from edgedistill.recipe import HALF_MEAN, HALF_STD

#: Torch advises against an even 'same' padding; the graph spells it out.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
HALF = {"mean": HALF_MEAN, "std": HALF_STD}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SMALL = Preprocess(height=16, width=16)


def unsettled(network: nn.Module, *, seed: int = 0) -> nn.Module:
    """Give every batch norm statistics and weights of its own, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                for name, low, high in (("running_mean", -0.5, 0.5), ("running_var", 0.3, 2), ("weight", 0.5, 1.5), ("bias", -0.5, 0.5)):
                    if (value := getattr(layer, name)) is not None:
                        value.uniform_(low, high, generator=generator)
    return network.eval()


def pixels_of(spec: Preprocess, count: int = 3) -> np.ndarray:
    """Return (count, H, W, 3) uint8 noise with borders of all values, so that wrong padding shows."""
    return np.random.default_rng(0).integers(0, 256, (count, spec.height, spec.width, 3), dtype=np.uint8)


def expected(student: nn.Module, pixels: np.ndarray, *, mean: tuple, std: tuple) -> np.ndarray:
    """Return the student's answers to normalized pixels, in double precision, one image at a time."""
    values = (torch.from_numpy(pixels).double() / 255 - torch.tensor(mean).double()) / torch.tensor(std).double()
    network = copy.deepcopy(student).double()
    with torch.inference_mode():
        return torch.cat([network(image[None]) for image in values.permute(0, 3, 1, 2)]).numpy()


def graph_of(student: nn.Module, spec: Preprocess = SMALL, *, classes: int = 5, **normalization) -> Graph:
    return prepare(student, spec, classes=classes, **(normalization or HALF))


def assert_same(graph: Graph, student: nn.Module, *, tolerance: float = 2e-5, **normalization) -> None:
    """Assert that a graph answers like its student, to rounding."""
    pixels = pixels_of(graph.spec)
    truth = expected(student, pixels, **(normalization or HALF))
    assert np.abs(truth).max() > 1e-3
    assert np.abs(logits_of(graph, pixels) - truth).max() <= tolerance * np.abs(truth).max()


def operators(graph: Graph) -> list[str]:
    return [str(node.target).removeprefix("aten.") for node in graph.module.graph.nodes if node.op == "call_function"]


TIMM = {
    "v2 of output stride 16": ("mobilenetv2_035", {"output_stride": 16}),
    "v3 same, with dropout": ("tf_mobilenetv3_small_minimal_100", {"drop_rate": 0.2, "drop_path_rate": 0.2}),
    "v3": ("mobilenetv3_small_050", {}),
    "v4": ("mobilenetv4_conv_small_035", {}),
    "lite0 same": ("tf_efficientnet_lite0", {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_a_network_of_timm(name: str) -> None:
    architecture, options = TIMM[name]
    torch.manual_seed(0)
    student = unsettled(timm.create_model(architecture, num_classes=5, **options))
    # An odd size makes 'same' padding uneven, and the mean of ImageNet makes the padded border differ from the image.
    spec = Preprocess(height=37, width=50)
    graph = graph_of(student, spec, **IMAGENET)
    assert graph.folded
    assert not [found for found in operators(graph) if "batch_norm" in found or found.endswith("_") or "dropout" in found]
    assert_same(graph, student, tolerance=1e-4, **IMAGENET)


@pytest.mark.slow
def test_a_network_of_torchvision() -> None:
    torch.manual_seed(0)
    student = unsettled(torchvision.models.mobilenet_v3_small(num_classes=5))
    graph = graph_of(student, Preprocess(height=32, width=48))
    assert graph.folded
    assert "hardsigmoid.default" not in operators(graph)
    assert graph.layers["conv2d"] == "features.0.0"
    assert_same(graph, student, tolerance=1e-4)


def convolution(inputs: int = 3, outputs: int = 6, size: int = 3, **options) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, **({"padding": 1} | options))


class Called(nn.Module):
    """A network of some layers whose forward is a function of the test."""

    def __init__(self, forward, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._forward = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._forward(self, x)


def ended(*layers: nn.Module) -> nn.Sequential:
    """Return layers that give 6 channels, with a head behind them."""
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 5))


def shared_view(m, x):
    y = m.body(x)
    y.view(x.shape[0], 6, -1)[:, 2].mul_(3)  # changes y as well
    return m.end(y)


def read_after_it_was_overwritten(m, x):
    y = m.body(x)
    z = torch.relu_(y)
    return m.end(y + z)


def overwritten_input(m, x):
    x += 1
    return m.end(m.body(x))


def rows_overwritten(m, x):
    y = m.body(x).clone()
    y[:, 0] = 2.0
    return m.end(y.contiguous().to(x.dtype).detach())


def shuffled(m, x):
    y = m.body(x)
    n, c, h, w = y.shape
    return m.end(y.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w))


def several_readers(m, x):
    y = m.body(x)
    return m.end(m.norm(y) * torch.sigmoid(y))


def twice(m, x):
    return m.end(m.norm(m.body(m.norm_in(m.body(x)[:, :3]))))


def standardized(m, x):
    weight = m.body.weight
    return m.end(m.norm(nn.functional.conv2d(x, (weight - weight.mean()) / weight.std(), m.body.bias, padding=1)))


ODD = {
    "batch norm": lambda: ended(convolution(bias=False), nn.BatchNorm2d(6), nn.ReLU6()),
    "batch norm behind a bias": lambda: ended(convolution(), nn.BatchNorm2d(6, eps=0.1)),
    "batch norm without affine": lambda: ended(convolution(), nn.BatchNorm2d(6, affine=False)),
    "batch norm in front": lambda: ended(nn.BatchNorm2d(3), nn.ReLU(), convolution()),
    "batch norm behind a linear layer": lambda: nn.Sequential(ended(convolution()), nn.BatchNorm1d(5), nn.Linear(5, 5)),
    "batch norms in a row": lambda: ended(convolution(), nn.BatchNorm2d(6), nn.BatchNorm2d(6)),
    "grouped": lambda: ended(convolution(outputs=6, groups=3), nn.BatchNorm2d(6)),
    "hard-sigmoid": lambda: ended(convolution(), nn.Hardsigmoid()),
    "hard-swish in place": lambda: ended(convolution(), nn.BatchNorm2d(6), nn.Hardswish(inplace=True)),
    "same, even": lambda: ended(convolution(size=4, padding="same")),
    "same, dilated and not square": lambda: ended(convolution(size=(2, 5), padding="same", dilation=(3, 1), bias=False), nn.BatchNorm2d(6)),
    "valid": lambda: ended(convolution(padding="valid", stride=2)),
    "reflected": lambda: ended(convolution(padding_mode="reflect")),
    "padded by a layer": lambda: ended(nn.ZeroPad2d((0, 1, 2, 0)), convolution(padding=0)),
    "padded with ones": lambda: ended(nn.ConstantPad2d(1, 1.0), convolution(padding=0)),
    "cut": lambda: ended(nn.ZeroPad2d((-1, 2, -3, 0)), convolution(padding=0)),
    "dropout": lambda: ended(convolution(), nn.Dropout(0.5), nn.Dropout2d(0.5)),
    "upsampled": lambda: ended(convolution(stride=2), nn.Upsample(scale_factor=2), nn.MaxPool2d(2)),
    "weight norm": lambda: ended(nn.utils.parametrizations.weight_norm(convolution())),
    "view overwritten": lambda: Called(shared_view, body=convolution(), end=ended()),
    "read after it was overwritten": lambda: Called(read_after_it_was_overwritten, body=convolution(), end=ended()),
    "rows overwritten": lambda: Called(rows_overwritten, body=convolution(), end=ended()),
    "shuffled": lambda: Called(shuffled, body=convolution(), end=ended()),
    "several readers": lambda: Called(several_readers, body=convolution(), norm=nn.BatchNorm2d(6), end=ended()),
    "shared weights": lambda: Called(twice, body=convolution(), norm=nn.BatchNorm2d(6), norm_in=nn.BatchNorm2d(3), end=ended()),
    "standardized weights": lambda: Called(standardized, body=convolution(), norm=nn.BatchNorm2d(6), end=ended()),
    "two that read the image": lambda: Called(lambda m, x: m.end(m.body(x) + m.one(x)), body=convolution(), one=convolution(), end=ended()),
    "image read beside": lambda: Called(lambda m, x: m.end(m.body(x)) + x.mean((1, 2, 3))[:, None], body=convolution(), end=ended()),
    "no convolution": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 5)),
    "one channel": lambda: Called(lambda m, x: m.end(m.body(x.mean(1, keepdim=True))), body=convolution(inputs=1), end=ended()),
}
NOT_FOLDED = (
    *("batch norm in front", "grouped", "reflected", "padded with ones", "two that read the image", "image read beside"),
    *("no convolution", "one channel"),
)
NORM_STAYS = ("batch norm in front", "several readers", "shared weights")


@pytest.mark.parametrize("name", ODD)
def test_a_network_of_odd_layers(name: str) -> None:
    torch.manual_seed(0)
    student = unsettled(ODD[name]())
    graph = graph_of(student, **IMAGENET)
    assert_same(graph, student, **IMAGENET)
    assert graph.folded is (name not in NOT_FOLDED)
    assert ("batch_norm.default" in operators(graph)) is (name in NORM_STAYS)
    assert not {"hardsigmoid.default", "conv2d.padding", "dropout.default", "clone.default", "contiguous.default"} & set(operators(graph))


def test_an_image_that_is_overwritten_is_not_the_callers() -> None:
    student = unsettled(Called(overwritten_input, body=convolution(), end=ended()))
    graph = graph_of(student)
    pixels = centred(graph, pixels_of(SMALL))
    before = pixels.clone()
    with torch.inference_mode():
        graph.module(pixels)
    assert torch.equal(pixels, before)


def test_the_layers_are_named() -> None:
    graph = graph_of(unsettled(ended(nn.Sequential(convolution(), nn.BatchNorm2d(6)), nn.Hardsigmoid())))
    named = [(node.name, graph.layers[node.name]) for node in graph.module.graph.nodes if node.op == "call_function"]
    assert [layer for _, layer in named] == ["", "0.0", "1", "1", "1", "2", "3", "4"]
    assert set(graph.layers) == {name for name, _ in named}


def test_a_layer_that_is_used_twice_is_named_twice() -> None:
    graph = graph_of(unsettled(ODD["shared weights"]()))
    assert [graph.layers[node.name] for node in graph.module.graph.nodes if node.target is torch.ops.aten.conv2d.default] == [
        "body",
        "body",
    ]


def test_nothing_of_this_machine_is_in_the_graph() -> None:
    graph = graph_of(unsettled(ended(convolution())))
    for node in graph.module.graph.nodes:
        assert __file__ not in str(node.meta.get("stack_trace"))
        assert ".py" not in str(node.meta.get("stack_trace", ""))


def test_weights_that_nobody_uses_are_gone() -> None:
    graph = graph_of(unsettled(ended(convolution(), nn.BatchNorm2d(6))))
    used = {str(node.target) for node in graph.module.graph.nodes if node.op == "get_attr"}
    assert set(graph.module.state_dict()) == used
    assert all(value.dtype == torch.float32 and value.is_contiguous() for value in graph.module.state_dict().values())


def test_the_student_stays_as_it_is() -> None:
    student = blobs.Student().train()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    graph = prepare(student, blobs.SPEC, **HALF, classes=6)
    with torch.no_grad():
        for value in graph.module.parameters():
            value.zero_()
    assert student.training
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())


def test_a_copy_has_weights_of_its_own() -> None:
    graph = graph_of(unsettled(ended(convolution())))
    pixels = pixels_of(SMALL)
    before = logits_of(graph, pixels)
    copied = copy_of(graph)
    with torch.no_grad():
        for value in copied.module.parameters():
            value.zero_()
    assert np.array_equal(logits_of(graph, pixels), before)
    assert not logits_of(copied, pixels).any()
    assert copied.layers == graph.layers


def test_the_same_student_gives_the_same_graph() -> None:
    first, second = (graph_of(unsettled(ODD["shuffled"]())) for _ in range(2))
    assert first.module.code == second.module.code
    assert first.layers == second.layers
    assert list(first.module.state_dict()) == list(second.module.state_dict())


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_logits_do_not_depend_on_the_batch_size(batch_size: int) -> None:
    graph = graph_of(unsettled(ended(convolution(), nn.BatchNorm2d(6))))
    pixels = pixels_of(SMALL, 7)
    found = logits_of(graph, pixels, batch_size=batch_size)
    assert found.shape == (7, 5)
    assert found.dtype == np.float32
    assert found == pytest.approx(logits_of(graph, pixels, batch_size=7), abs=1e-5)


def test_every_value_is_shown_batch_after_batch() -> None:
    graph = graph_of(unsettled(ended(convolution(), nn.BatchNorm2d(6))))
    shown: list[tuple[str, tuple[int, ...]]] = []
    activations(graph, pixels_of(SMALL, 5), lambda node, value: shown.append((node.name, tuple(value.shape))), batch_size=3)
    names = [node.name for node in graph.module.graph.nodes if node.op in ("placeholder", "call_function")]
    assert [name for name, _ in shown] == names * 2
    assert [shape[0] for _, shape in shown] == [3] * len(names) + [2] * len(names)
    assert shown[0] == (names[0], (3, 16, 16, 3))
    assert shown[-1][1] == (2, 5)
