"""Real fp32 ONNX files of a small trained student: what is in them, what they answer, and what must not be in them."""

from __future__ import annotations

import getpass
import socket
import sys
from collections import Counter
from pathlib import Path

import blobs
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from edgedistill.convert.graph import centred, logits_of, prepare, with_softmax
from edgedistill.convert.onnx_file import describe_onnx, load, strip, tensor_values, write_onnx
from edgedistill.convert.onnx_file.model import sort
from edgedistill.convert.onnx_file.tidy import tidy
from edgedistill.convert.pixels import model_pixels
from edgedistill.convert.quantize import Work
from edgedistill.errors import ConvertError, MissingExtraError
from edgedistill.recipe import HALF_MEAN, HALF_STD

PIXELS = model_pixels(blobs.frames(64, seed=2)[0], blobs.SPEC)
UNIFORM = (128 / 255,) * 3
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def run(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Return a file's answers, one image at a time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"pixels": image[np.newaxis]})[0] for image in pixels])


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in load(path).graph.node)


def test_it_answers_like_torch(onnx_work: Work) -> None:
    answers = run(onnx_work.fp32, centred(onnx_work.graph, PIXELS).numpy())
    assert answers == pytest.approx(logits_of(onnx_work.graph, PIXELS), abs=1e-4)


def test_its_input_is_an_image_of_floats_and_its_output_logits(onnx_work: Work) -> None:
    facts = describe_onnx(onnx_work.fp32)
    assert (facts.input.name, facts.input.shape, facts.input.dtype, facts.input.layout) == ("pixels", [1, 16, 16, 3], "float32", "NHWC")
    assert (facts.output.name, facts.output.shape, facts.output.dtype) == ("logits", [1, 6], "float32")
    assert (facts.minimum_runtime, facts.outside, facts.partitions) == ("onnxruntime>=1.14", {}, None)
    assert facts.versions == {"onnx opset": "18", "onnx ir": "8"}
    assert "BatchNormalization" not in facts.operators
    assert all(item.data_location == onnx.TensorProto.DEFAULT for item in load(onnx_work.fp32).graph.initializer)


def test_its_operators_are_named_after_the_students_layers(onnx_work: Work) -> None:
    names = [node.name for node in load(onnx_work.fp32).graph.node]
    assert len(set(names)) == len(names)
    assert {"stem.0/Conv", "stem.2/Relu", "depthwise.2/HardSwish", "pointwise.0/Conv", "head/Gemm"} <= set(names)


@pytest.mark.slow
def test_a_softmax_in_the_graph_gives_probabilities(onnx_work: Work, tmp_path: Path) -> None:
    write_onnx(with_softmax(onnx_work.graph), tmp_path / "x.onnx")
    assert describe_onnx(tmp_path / "x.onnx").output.name == "probabilities"
    assert run(tmp_path / "x.onnx", centred(onnx_work.graph, PIXELS).numpy()).sum(1) == pytest.approx(1, abs=1e-5)


def secrets(folder: Path) -> list[str]:
    """Return what would tell of the machine that a file was made on; names of a few letters are left out, since they occur by chance."""
    names = [
        str(Path.cwd()),
        sys.prefix,
        str(folder),
        getpass.getuser(),
        socket.gethostname(),
        "site-packages",
        ".py",
        "Traceback",
        "stack_trace",
    ]
    return [name for name in names if len(name) > 3 or name == ".py"]


def test_nothing_of_the_exporting_machine_is_in_it(onnx_work: Work) -> None:
    content = onnx_work.fp32.read_bytes()
    assert [secret for secret in secrets(onnx_work.fp32.parent) if secret.encode() in content] == []


@pytest.mark.slow
def test_the_same_student_gives_the_same_bytes(onnx_work: Work, student: nn.Module, tmp_path: Path, capfd) -> None:
    write_onnx(prepare(student, blobs.SPEC, mean=HALF_MEAN, std=HALF_STD, classes=6), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == onnx_work.fp32.read_bytes()
    assert [item.name for item in tmp_path.iterdir()] == ["again.onnx"]
    assert capfd.readouterr() == ("", "")


def test_every_value_between_can_be_looked_at(onnx_work: Work) -> None:
    values = tensor_values(onnx_work.fp32, centred(onnx_work.graph, PIXELS[:3]).numpy())
    assert values["logits"] == pytest.approx(logits_of(onnx_work.graph, PIXELS[:3]), abs=1e-4)
    assert {value.shape[0] for value in values.values()} == {3}
    assert len(values) == len(load(onnx_work.fp32).graph.node)


def test_looking_into_a_file_with_the_wrong_input_says_so(onnx_work: Work) -> None:
    with pytest.raises(ConvertError, match="cannot run the file"):
        tensor_values(onnx_work.fp32, PIXELS[:1])


class Odd(nn.Module):
    """Has an operator that ONNX has not."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.special.bessel_j0(x.mean((2, 3))))


@pytest.mark.slow
def test_an_operator_that_onnx_lacks_is_named(tmp_path: Path) -> None:
    graph = prepare(Odd(), blobs.SPEC, mean=HALF_MEAN, std=HALF_STD, classes=6)
    with pytest.raises(ConvertError, match=r"could not export x\.onnx: .*bessel_j0"):
        write_onnx(graph, tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_says_what_to_install(onnx_work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package} is not installed.*edgedistill\[workstation\]"):
        write_onnx(onnx_work.graph, tmp_path / "x.onnx")


def parsed(body: str, *, opset: int = 18) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g {body}')


def test_strip_reaches_every_part_and_leaves_the_models_own_metadata() -> None:
    model = parsed("(float[1] x) => (float[1] y) { y = Relu(x) }")
    model.producer_name = model.doc_string = "/home/somebody"
    model.metadata_props.add(key="name", value="kept")
    for part in (model.graph, model.graph.node[0], model.graph.input[0], model.graph.output[0]):
        part.doc_string = "/home/somebody"
        part.metadata_props.add(key="where", value="/home/somebody")
    strip(model)
    assert b"somebody" not in model.SerializeToString()
    assert model.metadata_props[0].value == "kept"


def test_tidying_says_averages_as_such_and_reshapes_once() -> None:
    model = parsed(
        """(float[1, 2, 3, 3] x) => (float[1, 2] y)
        <int64[2] axes = {-1, 2}, int64[1] flat = {-1}, int64[1, 2, 1, 1] every = {0, 1}, int64[2] two = {1, 2}>
        { m = ReduceMean<keepdims = 1>(x, axes)
          f = Reshape(m, flat)
          g = Gather<axis = 0>(f, every)
          y = Reshape(g, two) }"""
    )
    model = onnx.shape_inference.infer_shapes(model)
    image = np.random.default_rng(0).random((1, 2, 3, 3), np.float32)
    tidy(model)
    assert [node.op_type for node in model.graph.node] == ["GlobalAveragePool", "Reshape"]
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": image})[0] == pytest.approx(image.mean((2, 3)), abs=1e-6)


@pytest.mark.parametrize(
    "body",
    [
        "(float[1, 2, 3, 3] x) => (float[1, 2, 3, 1] y) <int64[1] axes = {3}> { y = ReduceMean<keepdims = 1>(x, axes) }",
        "(float[1, 2, 3, 3] x) => (float[1, 2] y) <int64[2] axes = {2, 3}> { y = ReduceMean<keepdims = 0>(x, axes) }",
        "(float[2] x) => (float[2] y) <int64[2] i = {1, 0}> { y = Gather<axis = 0>(x, i) }",
        "(float[3] x) => (float[2] y) <int64[2] i = {0, 1}> { y = Gather<axis = 0>(x, i) }",
    ],
)
def test_tidying_leaves_what_is_something_else(body: str) -> None:
    model = onnx.shape_inference.infer_shapes(parsed(body))
    before = [node.op_type for node in model.graph.node]
    tidy(model)
    assert [node.op_type for node in model.graph.node] == before


def test_sorting_puts_operators_behind_what_they_read() -> None:
    model = parsed("(float[1] x) => (float[1] y) { a = Relu(x) b = Neg(a) c = Exp(a) y = Add(b, c) }")
    turned = list(reversed([onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]))
    del model.graph.node[:]
    model.graph.node.extend(turned)
    sort(model.graph)
    onnx.checker.check_model(model, full_check=True)
    assert Counter(node.op_type for node in model.graph.node) == Counter(["Relu", "Neg", "Exp", "Add"])
