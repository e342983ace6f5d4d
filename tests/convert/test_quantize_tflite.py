"""The five TFLite recipes on a tiny file (quick) and on a converted student (slow): what is in the files, and what they answer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple, get_args

import blobs
import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent / "data"))
import make_tiny_tflite

from edgedistill.bundle import Preprocess
from edgedistill.convert import quantize as quantization
from edgedistill.convert.calibration import Range, observe, ranges_of
from edgedistill.convert.describe import read_operators
from edgedistill.convert.graph import Graph, logits_of, prepare
from edgedistill.convert.pixels import model_pixels
from edgedistill.convert.quantize import Work, names, quantize
from edgedistill.convert.quantize.tflite import RECIPES, static_int8_float_islands
from edgedistill.convert.quantize.tflite_tensors import read_tensors
from edgedistill.errors import ConvertError, MissingExtraError
from edgedistill.recipe.export import Quantization

TINY = Path(make_tiny_tflite.__file__).parent / "tiny-fp32.tflite"
PIXELS = np.random.default_rng(3).integers(0, 256, (40, make_tiny_tflite.HEIGHT, make_tiny_tflite.WIDTH, 3), dtype=np.uint8)
STATIC = ("static_int8", "static_int8_float_islands")


def as_graph(network: nn.Module, spec: Preprocess, classes: int) -> Graph:
    """Return a network that takes raw pixels as a graph, with nothing folded."""
    example = torch.zeros(2, spec.height, spec.width, 3)
    module = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)).module()
    layers = {node.name: _layer(node) for node in module.graph.nodes if node.op == "call_function"}
    return Graph(module=module, spec=spec, pixel_mean=0, classes=classes, layers=layers, folded=False)


def _layer(node: torch.fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    return [name for name, _ in stack.values()][-1] if stack else ""


@pytest.fixture(scope="module")
def work() -> Work:
    """Return the tiny file's work; its input is the camera's byte itself."""
    spec = Preprocess(height=make_tiny_tflite.HEIGHT, width=make_tiny_tflite.WIDTH)
    graph = as_graph(make_tiny_tflite.network(), spec, make_tiny_tflite.CLASSES)
    return Work(graph=graph, fp32=TINY, ranges=ranges_of(observe(graph, PIXELS), "minmax"), pixels_nhwc=PIXELS)


class File(NamedTuple):
    """An opened file: input and output of the interpreter, operators by name, parts that XNNPACK runs, and how to ask it."""

    input: dict
    output: dict
    operators: list[str]
    partitions: int
    details: dict[str, dict]
    path: Path

    def answers(self, pixels_nhwc: np.ndarray, pixel_mean: int) -> np.ndarray:
        """Return (N, classes) float logits of uint8 pixels."""
        interpreter = _opened(self.path)
        scale, zero_point = self.input["quantization"]
        found = []
        for image in pixels_nhwc:
            centred = image[None].astype(np.float32) - pixel_mean
            stored = centred if not scale else (np.rint(centred / scale) + zero_point).astype(self.input["dtype"])
            interpreter.set_tensor(self.input["index"], stored)
            interpreter.invoke()
            found.append(interpreter.get_tensor(self.output["index"])[0])
        return np.array(found)


def _opened(path: Path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def opened(path: Path) -> File:
    interpreter = _opened(path)
    return File(
        input=interpreter.get_input_details()[0],
        output=interpreter.get_output_details()[0],
        operators=[operator.name for operator in read_operators(path)[0]],
        partitions=sum(operator["op_name"] == "DELEGATE" for operator in interpreter._get_ops_details()),
        details={detail["name"]: detail for detail in interpreter.get_tensor_details()},
        path=path,
    )


def made(work: Work, name: str, folder: Path) -> File:
    path = folder / f"{name}.tflite"
    quantize("tflite", name, work, path)
    return opened(path)


def test_names_are_those_of_the_recipe_in_the_order_of_auto() -> None:
    assert names("tflite") == tuple(RECIPES) == get_args(Quantization)
    assert all(function.__name__ == name for name, function in RECIPES.items())


def test_unknown_names_and_formats_are_told_with_the_known_ones(work: Work, tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=r"tflite has no quantization 'static_int4', known are static_int8.*Did you mean 'static_int8'"):
        quantize("tflite", "static_int4", work, tmp_path / "x")
    with pytest.raises(ConvertError, match=r"no format 'ncnn' to quantize, known are onnx, tflite"):
        names("ncnn")


@pytest.mark.slow
def test_importing_the_recipes_loads_no_quantizer() -> None:
    import subprocess

    script = "import sys, edgedistill.convert.quantize as q; q.names('tflite'); print([m for m in sys.modules if m.startswith('ai_edge')])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


EXPECTED = {
    "static_int8": ("int8", {"QUANTIZE": 0, "DEQUANTIZE": 1}, 0.05),
    "static_int8_float_islands": ("int8", {"QUANTIZE": 0, "DEQUANTIZE": 1}, 0.05),
    "int16_activations": ("int16", {"QUANTIZE": 0, "DEQUANTIZE": 1}, 0.02),
    "weight_only_int8": ("float32", {"QUANTIZE": 0, "DEQUANTIZE": 2}, 0.02),
    "float16": ("float32", {"QUANTIZE": 0}, 0.002),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_recipe_makes_what_its_name_says(work: Work, tmp_path: Path, name: str) -> None:
    dtype, operators, error = EXPECTED[name]
    file = made(work, name, tmp_path)
    assert np.dtype(file.input["dtype"]) == dtype
    assert np.dtype(file.output["dtype"]) == "float32"
    assert {key: file.operators.count(key) for key in operators} == operators
    expected = logits_of(work.graph, PIXELS)
    assert file.answers(PIXELS, 0) == pytest.approx(expected, abs=error * float(np.abs(expected).max()))


@pytest.mark.parametrize("name", ["static_int8", "weight_only_int8", "float16"])
def test_xnnpack_runs_it_in_one_part(work: Work, tmp_path: Path, name: str) -> None:
    assert made(work, name, tmp_path).partitions == 1


@pytest.mark.parametrize("name", STATIC)
def test_the_stored_input_is_the_byte_less_128(work: Work, tmp_path: Path, name: str) -> None:
    assert made(work, name, tmp_path).input["quantization"] == (1.0, -128)


def test_weights_have_a_scale_for_each_channel(work: Work, tmp_path: Path) -> None:
    file = made(work, "static_int8", tmp_path)
    weights = [one for one in file.details.values() if one["dtype"] == np.int8 and tuple(one["shape"]) == (3, 3, 3, 3)]
    assert len(weights) == 1
    assert len(weights[0]["quantization_parameters"]["scales"]) == 3
    assert not weights[0]["quantization_parameters"]["zero_points"].any()


def test_activations_have_the_ranges_of_their_nodes(work: Work, tmp_path: Path) -> None:
    tensors = read_tensors(work)
    file = made(work, "static_int8", tmp_path)
    checked = 0
    for name, node in tensors.nodes.items():
        detail = file.details[name]
        scale, zero_point = detail["quantization"]
        if detail["dtype"] == np.int8:
            low, high = work.ranges[node]
            assert scale == pytest.approx((high - low) / 255)
            assert zero_point == pytest.approx(-128 - low / scale, abs=0.5)
            checked += 1
    assert checked >= 6


def test_every_activation_of_the_file_is_found_in_the_graph(work: Work) -> None:
    tensors = read_tensors(work)
    assert set(tensors.nodes) == set(tensors.names.values()) == set(tensors.ranges)
    padded = next(operator for operator in tensors.operators if operator.name == "PAD")
    assert tensors.nodes[tensors.output(padded)] == tensors.nodes[tensors.names[padded.inputs[0]]]
    assert tensors.last_layer().name == "FULLY_CONNECTED"


def test_a_tensor_that_no_node_gives_is_measured_in_the_file(work: Work) -> None:
    lying = Work(**(vars(work) | {"graph": as_graph(Scaled(), work.graph.spec, 3)}))
    assert lying.graph.module(torch.zeros(1, 12, 16, 3)).shape == (1, 3)
    ranges = {name: Range(0.0, 1.0) for name in (node.name for node in lying.graph.module.graph.nodes)}
    tensors = read_tensors(Work(**(vars(lying) | {"ranges": ranges})))
    output = tensors.output(tensors.last_layer())
    assert output not in tensors.nodes
    logits = opened(TINY).answers(PIXELS, 0)
    assert tensors.ranges[output] == pytest.approx((min(logits.min(), 0), max(logits.max(), 0)), rel=1e-5)


class Scaled(nn.Module):
    """A network that is not the one of the tiny file."""

    def forward(self, pixels_nhwc: torch.Tensor) -> torch.Tensor:
        return pixels_nhwc.mean((1, 2)) * 3 - 7


@pytest.mark.parametrize(
    ("islands", "kept"), [((), 1), (("CONV_2D",), 2), (("conv",), 2), (("head", "conv"), 2), (("FULLY_CONNECTED",), 1)]
)
def test_islands_by_kind_and_by_layer_stay_float(work: Work, tmp_path: Path, islands: tuple[str, ...], kept: int) -> None:
    static_int8_float_islands(work, tmp_path / "x.tflite", islands=islands)
    file = opened(tmp_path / "x.tflite")
    # The last layer's are float in any case.
    weights = [one for one in file.details.values() if tuple(one["shape"]) in ((3, 3, 3, 3), (3, 3))]
    assert sum(one["dtype"] == np.float32 for one in weights) == kept
    expected = logits_of(work.graph, PIXELS)
    assert file.answers(PIXELS, 0) == pytest.approx(expected, abs=0.05 * float(np.abs(expected).max()))


def test_an_island_that_is_neither_kind_nor_layer_is_refused(work: Work, tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=r"no operator and no layer 'cnov' to keep in float. Did you mean 'conv'"):
        static_int8_float_islands(work, tmp_path / "x.tflite", islands=("HARD_SWISH", "cnov"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", RECIPES)
def test_the_same_work_gives_the_same_bytes_and_leaves_nothing_beside(work: Work, tmp_path: Path, name: str, capfd) -> None:
    for file in ("a", "b"):
        quantize("tflite", name, work, tmp_path / file)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a", "b"]
    out, err = capfd.readouterr()
    assert out == ""
    assert "it/s" not in err
    assert sys.prefix.encode() not in (tmp_path / "a").read_bytes()


@pytest.mark.parametrize("name", RECIPES)
def test_a_file_that_cannot_be_quantized(work: Work, tmp_path: Path, name: str) -> None:
    (tmp_path / "broken.tflite").write_bytes(b"no flatbuffer at all, only text that is long enough")
    with pytest.raises(ConvertError, match=r"could not quantize broken\.tflite"):
        quantize("tflite", name, Work(**(vars(work) | {"fp32": tmp_path / "broken.tflite"})), tmp_path / "x.tflite")
    assert [item.name for item in tmp_path.iterdir()] == ["broken.tflite"]


@pytest.mark.parametrize("name", RECIPES)
def test_a_missing_quantizer_says_what_to_install(work: Work, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer", None)
    with pytest.raises(MissingExtraError, match=r"ai-edge-quantizer is not installed.*edgedistill\[workstation\]"):
        quantize("tflite", name, work, tmp_path / "x.tflite")


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Converted(NamedTuple):
    """A trained student as fp32 file with what to quantize it with, test pixels, and the graph's answers on them."""

    work: Work
    pixels_nhwc: np.ndarray
    labels: np.ndarray
    logits: np.ndarray


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """Return a student with hard-swish and means per channel, whose file has a fourth input channel."""
    from edgedistill.convert.tflite_file import write_tflite

    graph = prepare(blobs.trained(mean=MEAN, std=STD), blobs.SPEC, mean=MEAN, std=STD, classes=len(blobs.LABELS))
    path = tmp_path_factory.mktemp("converted") / "blobs.tflite"
    write_tflite(graph, path)
    calibration = model_pixels(blobs.frames(128, seed=3)[0], blobs.SPEC)
    frames, labels = blobs.frames(256, seed=2)
    pixels = model_pixels(frames, blobs.SPEC)
    work = Work(graph=graph, fp32=path, ranges=ranges_of(observe(graph, calibration), "percentile"), pixels_nhwc=calibration)
    return Converted(work, pixels, labels, logits_of(graph, pixels))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "partitions", "hard_swish"),
    [
        ("static_int8", 3, np.int8),
        ("static_int8_float_islands", 1, np.float32),
        ("int16_activations", None, np.float32),
        ("weight_only_int8", 1, np.float32),
        ("float16", 1, np.float32),
    ],
)
def test_a_converted_student_keeps_its_answers(converted: Converted, tmp_path: Path, name: str, partitions, hard_swish) -> None:
    file = made(converted.work, name, tmp_path)
    if partitions is not None:
        assert file.partitions == partitions
    operators, _ = read_operators(file.path)
    index = next(operator.outputs[0] for operator in operators if operator.name == "HARD_SWISH")
    assert next(one["dtype"] for one in file.details.values() if one["index"] == index) is hard_swish
    answers = file.answers(converted.pixels_nhwc, converted.work.graph.pixel_mean)
    right, kept = converted.logits.argmax(1) == converted.labels, answers.argmax(1) == converted.labels
    assert right.mean() > 0.95
    assert kept.mean() >= right.mean() - 0.01


@pytest.mark.slow
def test_the_constant_channel_is_exact(converted: Converted, tmp_path: Path) -> None:
    mean = converted.work.graph.pixel_mean
    file = made(converted.work, "static_int8", tmp_path)
    assert file.input["quantization"] == (1.0, mean - 128)
    operators, _ = read_operators(file.path)
    assert "QUANTIZE" not in file.operators[:2]
    padding = next(operator for operator in operators if operator.name in ("PADV2", "CONCATENATION"))
    details = {one["index"]: one for one in file.details.values()}
    assert {details[index]["quantization"] for index in (*padding.inputs[:1], *padding.outputs)} == {(1.0, mean - 128)}
    constant = next(details[index] for index in padding.inputs[1:] if details[index]["dtype"] == np.int8)
    interpreter = _opened(file.path)
    scale, zero_point = constant["quantization"]
    assert np.unique((interpreter.get_tensor(constant["index"]).astype(int) - zero_point) * scale) == [255 - mean]


@pytest.mark.slow
def test_every_activation_of_a_converted_student_is_found(converted: Converted) -> None:
    tensors = read_tensors(converted.work)
    assert set(tensors.nodes) == set(tensors.names.values())


@pytest.mark.slow
def test_a_softmax_at_the_end_stays_float(converted: Converted, tmp_path: Path) -> None:
    from edgedistill.convert.graph.softmax import with_softmax
    from edgedistill.convert.tflite_file import write_tflite

    write_tflite(with_softmax(converted.work.graph), tmp_path / "softmax.tflite")
    work = Work(**(vars(converted.work) | {"fp32": tmp_path / "softmax.tflite"}))
    file = made(work, "static_int8_float_islands", tmp_path)
    assert file.operators[-1] == "SOFTMAX"
    assert file.partitions == 1
    answers = file.answers(converted.pixels_nhwc[:32], converted.work.graph.pixel_mean)
    assert answers.sum(1) == pytest.approx(np.ones(32), abs=1e-5)
    assert (answers.argmax(1) == converted.logits[:32].argmax(1)).mean() >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fashion-mnist-mobilenetv3", "garments-mobilenetv2"])
def test_every_activation_of_a_shipped_student_is_found_and_its_islands_are_one_part(tmp_path: Path, name: str) -> None:
    from edgedistill.convert.tflite_file import write_tflite
    from edgedistill.distill import run

    shipped = run.load(Path(__file__).parents[2] / "models" / name)
    student, spec = shipped.student, shipped.preprocess
    graph = prepare(student.module, spec, mean=student.mean, std=student.std, classes=len(student.classes))
    write_tflite(graph, tmp_path / "fp32.tflite")
    pixels = np.random.default_rng(0).integers(0, 256, (16, spec.height, spec.width, 3), dtype=np.uint8)
    ranges = ranges_of(observe(graph, pixels, histograms=False), "minmax")
    work = Work(graph=graph, fp32=tmp_path / "fp32.tflite", ranges=ranges, pixels_nhwc=pixels)
    tensors = read_tensors(work)
    assert set(tensors.nodes) == set(tensors.names.values())
    assert made(work, "static_int8_float_islands", tmp_path).partitions == 1


def test_the_package_says_who_owns_a_format() -> None:
    assert quantization.FORMATS == ("onnx", "tflite")
