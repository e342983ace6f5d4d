"""Real ONNX files of a small trained student: what is in them, what they answer, and what must not be in them."""

from __future__ import annotations

import getpass
import sys
from collections import Counter
from pathlib import Path

import blobs
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from edgedistill.convert.graph import logits_of, prepare
from edgedistill.convert.onnx_fp32 import strip, write_onnx
from edgedistill.convert.onnx_int8 import quantize_onnx
from edgedistill.convert.pixels import model_pixels
from edgedistill.errors import ConvertError, MissingExtraError
from edgedistill.recipe import HALF_MEAN, HALF_STD

TEST_FRAMES, TEST_LABELS = blobs.frames(256, seed=2)
PIXELS = model_pixels(TEST_FRAMES, blobs.SPEC)


def run(path: Path, *, optimize: bool = True) -> np.ndarray:
    """Return the file's logits of the test pixels, one image at a time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"pixels": image[np.newaxis]})[0] for image in PIXELS])


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(str(path)).graph.node)


def test_the_student_has_learned_its_task(onnx_pair) -> None:
    assert (logits_of(onnx_pair.graph, PIXELS).argmax(1) == TEST_LABELS).mean() > 0.95


def test_fp32_answers_like_torch(onnx_pair) -> None:
    assert run(onnx_pair.fp32) == pytest.approx(logits_of(onnx_pair.graph, PIXELS), abs=1e-4)


def test_fp32_takes_bytes_and_has_no_batch_norm_left(onnx_pair) -> None:
    model = onnx.load(str(onnx_pair.fp32))
    image, logits = model.graph.input[0], model.graph.output[0]
    assert (image.name, logits.name) == ("pixels", "logits")
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_value for d in image.type.tensor_type.shape.dim] == [1, 16, 16, 3]
    assert [d.dim_value for d in logits.type.tensor_type.shape.dim] == [1, 6]
    assert operators(onnx_pair.fp32)["BatchNormalization"] == 0
    assert (model.opset_import[0].version, model.ir_version) == (18, 8)
    assert all(item.data_location == onnx.TensorProto.DEFAULT for item in model.graph.initializer)


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_nothing_of_the_exporting_machine_is_in_the_file(onnx_pair, kind: str) -> None:
    path: Path = getattr(onnx_pair, kind)
    content = path.read_bytes()
    for secret in (str(Path.cwd()), sys.prefix, "site-packages", ".py", "line ", "stack_trace", str(path.parent)):
        assert secret.encode() not in content, secret
    assert getpass.getuser().encode() not in content
    assert sorted(item.name for item in path.parent.iterdir()) == ["blobs-fp32.onnx", "blobs-int8.onnx"]


def test_the_same_student_gives_the_same_bytes(onnx_pair, student: nn.Module, tmp_path: Path, capfd) -> None:
    graph = prepare(student, blobs.SPEC, mean=HALF_MEAN, std=HALF_STD, classes=6)
    write_onnx(graph, tmp_path / "again.onnx", spec=blobs.SPEC)
    quantize_onnx(
        tmp_path / "again.onnx",
        tmp_path / "again8.onnx",
        graph=graph,
        pixels_nhwc=model_pixels(blobs.frames(32, seed=3)[0], blobs.SPEC),
    )
    assert (tmp_path / "again.onnx").read_bytes() == onnx_pair.fp32.read_bytes()
    assert (tmp_path / "again8.onnx").read_bytes() == onnx_pair.int8.read_bytes()
    assert capfd.readouterr() == ("", "")


def test_int8_answers_like_the_student(onnx_pair) -> None:
    expected, found = logits_of(onnx_pair.graph, PIXELS), run(onnx_pair.int8)
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.98
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.995


def test_int8_answers_the_same_with_integer_kernels_and_in_float_arithmetic(onnx_pair) -> None:
    # Without reduced weights, a processor that clips 16-bit sums would differ here by whole classes.
    exact, fused = run(onnx_pair.int8, optimize=False), run(onnx_pair.int8)
    assert np.abs(exact - fused).max() < 0.05 * np.abs(exact).max()
    assert (exact.argmax(1) == fused.argmax(1)).mean() > 0.99


def test_int8_weights_are_per_channel_and_leave_a_bit_free(onnx_pair) -> None:
    model = onnx.load(str(onnx_pair.int8))
    values = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    weights = {name: value for name, value in values.items() if value.dtype == np.int8 and value.ndim >= 2}
    assert len(weights) == 4
    for name, weight in weights.items():
        assert np.abs(weight.astype(int)).max() <= 64
        scale = values[name.replace("_quantized", "_scale")]
        assert scale.size == (1 if weight.ndim == 2 and scale.ndim == 0 else len(weight))


def test_int8_feeds_the_bytes_to_the_network_without_a_way_through_float(onnx_pair) -> None:
    found = operators(onnx_pair.int8)
    assert found["Transpose"] == 1
    assert not found.keys() & {"Cast", "Sub", "Div"}
    assert found["Conv"] == 3
    assert found["Gemm"] == 1


def test_int8_layers_become_integer_kernels(onnx_pair, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(onnx_pair.int8), options, providers=["CPUExecutionProvider"])
    found = operators(tmp_path / "optimized.onnx")
    assert (found["QLinearConv"], found["QLinearAdd"], found["QGemm"], found["Conv"]) == (3, 1, 1, 0)


def test_int8_logits_are_not_rounded(onnx_pair) -> None:
    model = onnx.load(str(onnx_pair.int8))
    last = next(node for node in model.graph.node if "logits" in node.output)
    assert last.op_type == "Gemm"


def test_int8_with_another_normalization_keeps_it_in_float(tmp_path: Path) -> None:
    normalization = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    graph = prepare(blobs.trained(steps=40, **normalization), blobs.SPEC, **normalization, classes=6)
    write_onnx(graph, tmp_path / "a.onnx", spec=blobs.SPEC)
    quantize_onnx(tmp_path / "a.onnx", tmp_path / "b.onnx", graph=graph, pixels_nhwc=PIXELS[:32])
    assert operators(tmp_path / "b.onnx")["Sub"] == 1
    expected = logits_of(graph, PIXELS)
    assert np.corrcoef(run(tmp_path / "b.onnx").ravel(), expected.ravel())[0, 1] > 0.99


class Branching(nn.Module):
    """Takes another way for bright images, which no static graph can."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        means = x.mean((2, 3))
        return self.head(means) if float(means.sum()) > 0 else self.head(-means)


def test_a_network_that_the_exporter_refuses(tmp_path: Path, capfd) -> None:
    graph = prepare(Branching(), blobs.SPEC, mean=HALF_MEAN, std=HALF_STD, classes=6)
    with pytest.raises(ConvertError, match=r"could not export x\.onnx"):
        write_onnx(graph, tmp_path / "x.onnx", spec=blobs.SPEC)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_quantized(onnx_pair, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(ConvertError, match=r"could not quantize broken\.onnx"):
        quantize_onnx(tmp_path / "broken.onnx", tmp_path / "x.onnx", graph=onnx_pair.graph, pixels_nhwc=PIXELS[:32])
    assert [item.name for item in tmp_path.iterdir()] == ["broken.onnx"]


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_says_what_to_install(onnx_pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package} is not installed.*edgedistill\[workstation\]"):
        write_onnx(onnx_pair.graph, tmp_path / "x.onnx", spec=blobs.SPEC)


def test_a_missing_quantizer_says_what_to_install(onnx_pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime.quantization", None)
    with pytest.raises(MissingExtraError, match=r"edgedistill\[workstation\]"):
        quantize_onnx(onnx_pair.fp32, tmp_path / "x.onnx", graph=onnx_pair.graph, pixels_nhwc=PIXELS[:32])


def test_strip_reaches_every_part() -> None:
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 18]> g (float[1] x) => (float[1] y) { y = Relu(x) }')
    for part in (model, model.graph, model.graph.node[0], model.graph.input[0], model.graph.output[0]):
        part.doc_string = "/home/somebody"
        part.metadata_props.add(key="where", value="/home/somebody")
    strip(model)
    assert b"somebody" not in model.SerializeToString()


class Twice(nn.Module):
    """Uses the normalized image a second time, in an operator that stays float."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = blobs.Student()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) + torch.sin(x).mean((1, 2, 3)).unsqueeze(1)


def test_int8_of_a_network_that_uses_the_image_twice(student: nn.Module, tmp_path: Path) -> None:
    network = Twice()
    network.inner.load_state_dict(student.state_dict())
    graph = prepare(network, blobs.SPEC, mean=HALF_MEAN, std=HALF_STD, classes=6)
    write_onnx(graph, tmp_path / "a.onnx", spec=blobs.SPEC)
    quantize_onnx(tmp_path / "a.onnx", tmp_path / "b.onnx", graph=graph, pixels_nhwc=PIXELS[:32])
    assert operators(tmp_path / "b.onnx")["Sin"] == 1
    assert np.corrcoef(run(tmp_path / "b.onnx").ravel(), logits_of(graph, PIXELS).ravel())[0, 1] > 0.99
