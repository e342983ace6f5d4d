"""Both ends of a file: bytes in with the same answers to the bit, floats out, softmax where it is asked for, signatures that follow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import finished
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgedistill.convert.tflite_file import ends, flatbuffer
from edgedistill.errors import ConvertError

INT8, FP32 = finished.TINY["int8"], finished.TINY["fp32"]


def names(model: Any) -> list[str]:
    return [flatbuffer.operator_name(model, operator) for operator in model.subgraphs[0].operators]


def saved(model: Any, path: Path) -> Path:
    path.write_bytes(flatbuffer.pack(model))
    return path


def test_bytes_in_give_the_same_answers_to_the_bit(tmp_path: Path) -> None:
    model = flatbuffer.read(INT8)
    ends.take_bytes(model, 0)
    pixels = finished.noise(20)
    found = finished.raw(saved(model, tmp_path / "x.tflite"), pixels)
    np.testing.assert_array_equal(found, finished.raw(INT8, pixels.astype(np.int16) - 128))


def test_every_pixel_value_comes_in_as_it_is(tmp_path: Path) -> None:
    model = flatbuffer.read(INT8)
    ends.take_bytes(model, 0)
    graph = model.subgraphs[0]
    graph.outputs, graph.operators = [graph.operators[1].outputs[0]], graph.operators[:2]
    model.signatureDefs = []
    every = np.resize(np.arange(256, dtype=np.uint8), (1, 12, 16, 3))
    assert finished.raw(saved(model, tmp_path / "x.tflite"), every)[0].astype(int).ravel().tolist() == every.ravel().tolist()


@pytest.mark.parametrize("pixel_mean", [0, 128, 255])
def test_the_bytes_stand_for_the_pixel_less_the_mean(pixel_mean: int) -> None:
    model = flatbuffer.read(INT8)
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].quantization.zeroPoint = np.array([pixel_mean - 128])
    ends.take_bytes(model, pixel_mean)
    image = graph.tensors[graph.inputs[0]]
    assert (image.type, image.quantization.scale, image.quantization.zeroPoint) == (schema.TensorType.UINT8, [1.0], [pixel_mean])
    assert names(model)[:2] == ["DEQUANTIZE", "QUANTIZE"]


def test_a_float_input_stays() -> None:
    model = flatbuffer.read(FP32)
    before = flatbuffer.pack(model)
    ends.take_bytes(model, 100)
    ends.give_floats(model)
    assert flatbuffer.pack(model) == before


@pytest.mark.parametrize(("scale", "zero_point"), [(0.5, -128), (1.0, -127), (1.01, -128)])
def test_an_input_that_would_round_the_bytes_is_refused(scale: float, zero_point: int) -> None:
    model = flatbuffer.read(INT8)
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].quantization = schema.QuantizationParametersT(scale=[scale], zeroPoint=[zero_point])
    with pytest.raises(ConvertError, match=rf"scale {scale:g} and zero point {zero_point}, .*expected 1 and -128: give .*range 0 to 255"):
        ends.take_bytes(model, 0)


@pytest.mark.parametrize("path", [INT8, FP32], ids=["int8", "fp32"])
def test_softmax_behind_the_logits(path: Path, tmp_path: Path) -> None:
    model = flatbuffer.read(path)
    ends.give_floats(model)
    ends.give_probabilities(model)
    ends.give_probabilities(model)
    assert names(model).count("SOFTMAX") == 1
    inputs = finished.noise(5) // 2
    logits = finished.raw(path, inputs)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(finished.raw(saved(model, tmp_path / "x.tflite"), inputs), expected, atol=1e-6)


def test_names_and_signature_follow(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    model = flatbuffer.read(INT8)
    ends.take_bytes(model, 0)
    ends.give_floats(model)
    ends.name_ends(model, output="logits")
    path = saved(model, tmp_path / "x.tflite")
    runner = Interpreter(str(path), num_threads=1).get_signature_runner("serving_default")
    assert list(runner.get_input_details()) == ["pixels"]
    (scores,) = runner(pixels=finished.noise(1)).values()
    assert scores.dtype == np.float32
    assert list(runner.get_output_details()) == ["logits"]


@pytest.mark.parametrize(
    ("change", "role", "indices"), [(lambda model: ends.take_bytes(model, 0), "input", []), (ends.give_floats, "output", [1, 2])]
)
def test_a_file_with_more_than_one_of_each_is_refused(change: Callable[[Any], None], role: str, indices: list[int]) -> None:
    model = flatbuffer.read(INT8)
    setattr(model.subgraphs[0], f"{role}s", indices)
    with pytest.raises(ConvertError, match=f"has {len(indices)} {role}s where a classifier has one"):
        change(model)
