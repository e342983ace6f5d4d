"""What a student is refused for, in words that say what to do; and what converters stumbled over, by layer."""

from __future__ import annotations

import re

import blobs
import pytest
import torch
from torch import nn

from edgedistill.bundle import Preprocess
from edgedistill.convert.graph import Graph, blame, logits_of, prepare, with_softmax
from edgedistill.convert.graph.checks import first_line
from edgedistill.errors import ConvertError
from edgedistill.recipe import HALF_MEAN, HALF_STD

SPEC = Preprocess(height=16, width=16)
RAW = {"mean": HALF_MEAN, "std": HALF_STD, "classes": 5}


class Student(nn.Module):
    """Five logits, after or before something that a file cannot hold."""

    def __init__(self, forward) -> None:
        super().__init__()
        self.body, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Linear(4, 5)
        self._forward = forward

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean((2, 3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._forward(self, x)


def branches(m, x):
    return m.logits(x * 2 if x.mean() > 0 else x)


def loops(m, x):
    while x.abs().max() > 1:
        x = x / 2
    return m.logits(x)


def as_numpy(m, x):
    return m.logits(torch.from_numpy(x.numpy() * 2))


def host_number(m, x):
    return m.logits(x) * x.max().item()


def found_places(m, x):
    return m.logits(x) + torch.nonzero(x[:, 0, 0, :] > -9).float().mean()


def masked(m, x):
    return m.logits(x) + x[x > -9].mean()


def counted(m, x):
    return m.logits(x).view(len(x), 5)


def one_image_only(m, x):
    return m.logits(x).view(1, 5)


def over_the_batch(m, x):
    return torch.stack([m.logits(image[None])[0] for image in x])


def by_number(m, x):
    return m.logits(x) if x.shape[0] == 1 else m.logits(x) + 1


def mixed(m, x):
    return m.logits(x) - m.logits(x).mean(0)


def batch_statistics(m, x):
    return m.head(m.norm(m.body(x)).mean((2, 3)))


def random(m, x):
    return m.logits(x + torch.rand_like(x))


def blind(m, x):
    return torch.ones(x.shape[0], 5)


def breaks(m, x):
    raise KeyError("key of the student")


REFUSED = {
    branches: r"branches on what it sees at `return m.logits\(x \* 2 if x.mean\(\) > 0 else x\)`; take branches and loops .*torch.where",
    loops: r"branches on what it sees at `while x.abs\(\).max\(\) > 1:`; take branches",
    as_numpy: "branches on what it sees; take branches",
    host_number: r"what aten.item \(in its forward\) gives depends on the image; take branches",
    found_places: r"what aten.nonzero \(in its forward\) gives depends on the image",
    masked: r"what aten.index \(in its forward\) gives depends on the image",
    counted: r"depend on how many images there are. Write x.flatten\(1\) and x.shape\[0\] instead of len\(x\)",
    one_image_only: "depend on how many images there are. Write",
    over_the_batch: "depend on how many images there are. .*loops over the batch",
    by_number: "answers an image differently alone and among others .* differ by 1",
    mixed: "answers an image differently alone and among others .*take what mixes the images",
    batch_statistics: r"aten.batch_norm \(layer norm\) takes mean and variance from the other images .*track_running_stats=True",
    random: r"aten.rand_like \(in its forward\) gives random numbers; leave it out",
    blind: "does not look at the image: .*return what its layers compute",
    breaks: "fails on an image of 16x16: 'key of the student'; give it the size",
}


@pytest.mark.parametrize("forward", REFUSED, ids=lambda forward: forward.__name__)
def test_what_no_file_can_hold_is_refused(forward, capfd: pytest.CaptureFixture) -> None:
    torch.manual_seed(0)
    with pytest.raises(ConvertError, match=REFUSED[forward]) as caught:
        prepare(Student(forward).eval(), SPEC, **RAW)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


class Pair(nn.Module):
    """Returns two tensors, which no file can."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("network", "spec", "message"),
    [
        (blobs.Student(7), SPEC, r"returns \(1, 7\).*expected \(1, 5\).*replace its head"),
        (nn.Conv2d(3, 5, 3), SPEC, r"returns \(1, 5, 14, 14\)"),
        (Pair(), SPEC, "returns tuple"),
        (nn.Linear(6, 5), SPEC, "fails on an image of 16x16.*give it the size it was trained at"),
        (blobs.Student(5), Preprocess(height=16, width=16, color="BGR"), "color = 'BGR'"),
        (blobs.Student(5), Preprocess(height=16, width=16, mean=(128, 128, 128), std=(127, 127, 127)), "leave mean and std out"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(network: nn.Module, spec: Preprocess, message: str) -> None:
    with pytest.raises(ConvertError, match=message):
        prepare(network, spec, **RAW)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["head.weight", "stem.1.running_var"])
def test_weights_that_are_not_finite_are_named(value: float, name: str) -> None:
    student = blobs.Student(5)
    student.state_dict()[name].view(-1)[-1] = value
    with pytest.raises(ConvertError, match=f"{re.escape(name)} has NaN or infinite values; train it again"):
        prepare(student, SPEC, **RAW)


def test_a_buffer_that_is_not_saved_is_looked_at_too() -> None:
    student = blobs.Student(5)
    student.register_buffer("scale", torch.tensor(float("nan")), persistent=False)
    with pytest.raises(ConvertError, match="scale has NaN"):
        prepare(student, SPEC, **RAW)


def test_finite_weights_with_endless_logits() -> None:
    student = blobs.Student(5).eval()
    student.head.weight.data.fill_(3e38)
    with pytest.raises(ConvertError, match=r"answers an image of 16x16 with NaN or infinite logits; train it again"):
        prepare(student, SPEC, **RAW)


class Bessel(nn.Module):
    """An operator that no device has."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x)


class Singular(nn.Module):
    """An operator that tracers take apart into others."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svdvals(x)[..., None]


def with_layer(layer: nn.Module) -> Graph:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(), layer), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    return prepare(network.eval(), SPEC, **RAW)


@pytest.fixture(scope="module")
def bessel() -> Graph:
    return with_layer(Bessel())


LITERT = """Lowering not found: aten.special_bessel_j0.default

While executing %special_bessel_j0 : [num_users=1] = call_function[target=torch.ops.aten.special_bessel_j0.default](args = (%clone_4,))
Original traceback:
edgedistill node special_bessel_j0
Use tlparse to see full graph."""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LITERT, r"cannot write aten.special_bessel_j0, which layer 1.1 uses \(Lowering not found: .*\); put operators there"),
        (LITERT.replace("edgedistill node", "File x"), "cannot write aten.special_bessel_j0, which layer 1.1 uses"),
        (
            "at node call_function[target=torch.ops.prims.bessel_j0.default](args)",
            "cannot write aten.special_bessel_j0, which layer 1.1 uses",
        ),
        ("call_function[target=torch.ops.aten.conv2d.default]", "cannot write aten.conv2d, which layer 0 uses"),
        ("call_function[target=torch.ops.aten.unheard_of.default]", r"cannot write aten.unheard_of \("),
        ("call_function[target=operator.getitem]", "cannot write operator.getitem"),
        ("\n\n  something else\nmore", "^something else$"),
        ("", "^RuntimeError$"),
    ],
)
def test_the_layer_is_found_from_a_converters_words(bessel: Graph, text: str, message: str) -> None:
    said = blame(bessel, RuntimeError(text))
    assert re.search(message, said)
    assert "\n" not in said


def test_the_reason_is_the_innermost_that_says_something(bessel: Graph) -> None:
    try:
        try:
            try:
                raise KeyError("torch.complex64")
            except KeyError as error:
                raise ValueError("no type <function f at 0x7f88af90ad40> and <x object at 0x7f88af90ad40>") from error
        except ValueError as error:
            raise RuntimeError("call_function[target=torch.ops.aten.relu.default]") from error
    except RuntimeError as error:
        said = blame(bessel, error)
    assert "aten.relu, which layer 1.0 uses (no type" in said


def test_an_error_that_is_its_own_context(bessel: Graph) -> None:
    error = RuntimeError("round and round")
    error.__cause__ = error
    assert blame(bessel, error) == "round and round"


@pytest.mark.slow
@pytest.mark.parametrize("layer", [Bessel, Singular], ids=lambda layer: layer.__name__)
def test_the_real_converters_name_operator_and_layer(layer: type[nn.Module], tmp_path) -> None:
    from edgedistill.convert.onnx_file import write_onnx
    from edgedistill.convert.tflite_file import write_tflite

    graph = with_layer(layer())
    for write, name in ((write_onnx, "x.onnx"), (write_tflite, "x.tflite")):
        with pytest.raises(
            ConvertError, match=rf"{name}: it cannot write .*(bessel_j0|svd).*, which layer 1\.1 uses .*leave \w+ out of"
        ) as caught:
            write(graph, tmp_path / name)
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.iterdir())


def test_softmax_is_appended_to_a_copy(bessel: Graph) -> None:
    import numpy as np

    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    logits = logits_of(bessel, pixels)
    graph = with_softmax(bessel)
    probabilities = logits_of(graph, pixels)
    assert probabilities.sum(1) == pytest.approx(np.ones(3), abs=1e-6)
    assert probabilities == pytest.approx(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), abs=1e-6)
    assert np.array_equal(logits_of(bessel, pixels), logits)
    assert set(graph.layers) - set(bessel.layers) == {graph.module.graph.output_node().all_input_nodes[0].name}
    assert with_softmax(graph) is graph


@pytest.mark.parametrize(("text", "line"), [("", "ValueError"), ("\n\n a \nb", "a"), ("x" * 999, "x" * 300)])
def test_first_line(text: str, line: str) -> None:
    assert first_line(ValueError(text)) == line
