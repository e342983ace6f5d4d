"""Finished files: the same answers as before, all that users need inside, the same bytes each time, and no trace of the machine."""

from __future__ import annotations

import getpass
import itertools
import os
import shutil
from pathlib import Path

import finished
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.bundle import Quantization, Tensor
from edgedistill.convert.describe import read_operators
from edgedistill.convert.facts import FileFacts
from edgedistill.convert.tflite_file import describe_tflite, finish, flatbuffer, labels, metadata
from edgedistill.errors import ConvertError

FP32, INT8 = finished.TINY["fp32"], finished.TINY["int8"]


def said(path: Path) -> metadata.Described:
    data = flatbuffer.metadata(flatbuffer.read(path), metadata.ENTRY)
    assert data is not None
    return metadata.decode(data)


@pytest.mark.parametrize(
    ("source", "image"),
    [
        (FP32, Tensor(name="pixels", shape=[1, 12, 16, 3], dtype="float32", layout="NHWC")),
        (
            INT8,
            Tensor(name="pixels", shape=[1, 12, 16, 3], dtype="uint8", layout="NHWC", quantization=Quantization(scale=1.0, zero_point=0)),
        ),
    ],
)
@pytest.mark.parametrize("scores", ["logits", "probabilities"])
def test_a_finished_file_is_described(source: Path, image: Tensor, scores: str, tmp_path: Path) -> None:
    path = finished.finished(source, tmp_path / "x.tflite", finished.facts(scores=scores))
    found = describe_tflite(path)
    assert found.input == image
    assert found.output == Tensor(name=scores, shape=[1, 3], dtype="float32", layout="NC")
    assert (found.partitions, found.outside) == (1, {})
    assert found.minimum_runtime == "tflite>=2.0"
    assert labels.read(path) == ("red", "green", "blue")
    assert (said(path).name, said(path).author, said(path).output) == ("tiny", "somebody", scores)


@pytest.mark.parametrize("scores", ["logits", "probabilities"])
@pytest.mark.parametrize("source", [FP32, INT8])
def test_it_answers_through_the_runtime_as_before(source: Path, scores: str, tmp_path: Path) -> None:
    facts = finished.facts(scores=scores)
    pixels = finished.noise(20)
    expected = finished.raw(source, pixels.astype(np.int16) - 128 if source == INT8 else pixels)
    found = finished.run(finished.finished(source, tmp_path / "x.tflite", facts), facts, pixels)
    if scores == "logits":
        np.testing.assert_array_equal(found, expected)
    else:
        shifted = expected - np.log(np.exp(expected).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(found, shifted, atol=1e-4)


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_a_shipped_file_can_be_finished_and_finished_again(kind: str, tmp_path: Path) -> None:
    path, facts = finished.shipped(kind, tmp_path / "x.tflite", scores="probabilities")
    once = path.read_bytes()
    finish(path, facts)
    assert path.read_bytes() == once
    found = describe_tflite(path)
    assert (found.partitions, found.outside) == (1, {})
    assert found.input.dtype == ("uint8" if kind == "int8" else "float32")
    assert found.operators["SOFTMAX"] == 1


def test_the_same_file_and_facts_give_the_same_bytes_in_any_folder(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "some other folder"]
    for folder in folders:
        folder.mkdir()
    first, second = (finished.finished(INT8, folder / "x.tflite", finished.facts()).read_bytes() for folder in folders)
    assert first == second


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_nothing_of_the_machine_is_inside(kind: str, tmp_path: Path) -> None:
    data = finished.shipped(kind, tmp_path / "x.tflite")[0].read_bytes()
    for trace in (
        str(Path.home()),
        str(Path(__file__).parents[3]),
        os.sep + "site-packages",
        str(tmp_path),
        f"{os.sep}{getpass.getuser()}",
    ):
        assert trace.encode() not in data


LINE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=20)


@settings(max_examples=15, deadline=None)
@given(LINE, st.lists(LINE, min_size=3, max_size=3), st.integers(0, 255))
def test_any_names_and_labels_come_back_from_a_finished_file(
    tmp_path_factory: pytest.TempPathFactory, name: str, names: list[str], pixel_mean: int
) -> None:
    facts = finished.facts(name=name, labels=tuple(names), pixel_mean=pixel_mean)
    path = finished.finished(FP32, tmp_path_factory.getbasetemp() / "named.tflite", facts)
    assert (said(path).name, labels.read(path), said(path).mean) == (name, tuple(names), [float(pixel_mean)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("a", "b")}, "gives 3 scores for 2 labels"),
        ({"labels": ("a", "b\nc", "d")}, "is not one line of text"),
        ({"pixel_mean": 100}, "zero point -128, which would round"),
    ],
)
def test_a_failure_leaves_the_file_as_it_was(changes: dict, message: str, tmp_path: Path) -> None:
    path = Path(shutil.copy(INT8, tmp_path / "x.tflite"))
    with pytest.raises(ConvertError, match=message):
        finish(path, finished.facts(**changes))
    assert path.read_bytes() == INT8.read_bytes()
    assert [item.name for item in tmp_path.iterdir()] == ["x.tflite"]


def test_no_space_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(shutil.copy(INT8, tmp_path / "x.tflite"))

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        finish(path, finished.facts())
    assert path.read_bytes() == INT8.read_bytes()
    assert [item.name for item in tmp_path.iterdir()] == ["x.tflite"]


def test_operators_and_inputs_are_read() -> None:
    operators, inputs = read_operators(FP32)
    assert [operator.name for operator in operators][:2] == ["SUB", "MUL"]
    assert operators[0].inputs[0] == inputs[0]
    for earlier, later in itertools.pairwise(operators):
        assert earlier.outputs[0] in later.inputs


@pytest.mark.parametrize(
    ("kind", "outputs", "message"),
    [(schema.TensorType.INT32, 1, "tensor .* is int32"), (schema.TensorType.FLOAT32, 0, "has 1 inputs and 0 outputs where")],
)
def test_a_file_that_no_manifest_can_hold(kind: int, outputs: int, message: str, tmp_path: Path) -> None:
    model = flatbuffer.read(FP32)
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].type = kind
    graph.outputs = graph.outputs[:outputs]
    (tmp_path / "x.tflite").write_bytes(flatbuffer.pack(model))
    with pytest.raises(ConvertError, match=message):
        describe_tflite(tmp_path / "x.tflite")


def test_a_file_that_the_interpreter_refuses(tmp_path: Path) -> None:
    model = flatbuffer.read(FP32)
    model.operatorCodes[0].version = 99
    (tmp_path / "x.tflite").write_bytes(flatbuffer.pack(model))
    with pytest.raises(ConvertError, match=r"refuses x\.tflite"):
        describe_tflite(tmp_path / "x.tflite")


def test_facts_are_those_of_every_format() -> None:
    assert set(FileFacts.__dataclass_fields__) == {
        *("name", "description", "author", "licence", "labels", "spec", "pixel_mean", "scores"),
    }
