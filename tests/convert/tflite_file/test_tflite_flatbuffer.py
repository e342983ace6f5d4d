"""Opening and packing: nothing lost, weights aligned, what lies behind the flatbuffer brought inside, broken files refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import finished
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgedistill.convert.tflite_file import describe, flatbuffer
from edgedistill.errors import ConvertError

FILES = [*finished.TINY.values(), *sorted(finished.SHIPPED.glob("*.tflite"))]
INT8 = finished.TINY["int8"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_packed_again_computes_the_same(path: Path, tmp_path: Path) -> None:
    model = flatbuffer.read(path)
    again = tmp_path / "again.tflite"
    again.write_bytes(flatbuffer.pack(model))
    shape = model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].shape
    inputs = finished.noise(6, *shape[1:3]) // 2
    np.testing.assert_array_equal(finished.raw(again, inputs), finished.raw(path, inputs))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_packing_gives_the_same_bytes_each_time(path: Path, tmp_path: Path) -> None:
    data = flatbuffer.pack(flatbuffer.read(path))
    (tmp_path / "x.tflite").write_bytes(data)
    assert flatbuffer.pack(flatbuffer.read(path)) == data
    assert flatbuffer.pack(flatbuffer.read(tmp_path / "x.tflite")) == data


def weights(data: bytes) -> list[tuple[int, bytes]]:
    """Return place and content of every buffer inside of a flatbuffer."""
    model = schema.Model.GetRootAs(data, 0)
    found = []
    for i in range(model.BuffersLength()):
        buffer = model.Buffers(i)
        if buffer.DataLength():
            start = buffer._tab.Vector(buffer._tab.Offset(4))
            found.append((start, bytes(buffer.DataAsNumpy())))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_weights_lie_where_interpreters_may_read_them_in_place(path: Path) -> None:
    found = weights(flatbuffer.pack(flatbuffer.read(path)))
    assert found
    assert {start % flatbuffer.ALIGNMENT for start, _ in found} == {0}


def outsourced(path: Path) -> tuple[bytes, list[bytes]]:
    """Return a file whose weights lie behind the flatbuffer, as ai-edge-quantizer leaves large ones, and these weights."""
    model = flatbuffer.read(path)
    contents = [bytes(buffer.data) if buffer.data is not None else b"" for buffer in model.buffers]
    data = b""
    for _ in range(2):  # the first pass tells how long the flatbuffer is
        offset = len(data)
        for buffer, content in zip(model.buffers, contents, strict=True):
            if content:
                buffer.data, buffer.offset, buffer.size = None, offset, len(content)
                offset += len(content)
        model.buffers = [schema.BufferT(buffer.data, buffer.offset, buffer.size) for buffer in model.buffers]
        data = flatbuffer.pack(model)
    return data + b"".join(contents), [content for content in contents if content]


def test_weights_behind_the_flatbuffer_are_brought_inside(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    data, contents = outsourced(INT8)
    assert weights(data) == []
    path.write_bytes(data)
    packed = flatbuffer.pack(flatbuffer.read(path))
    assert sorted(content for _, content in weights(packed)) == sorted(contents)
    (tmp_path / "y.tflite").write_bytes(packed)
    inputs = finished.noise(4) // 2
    np.testing.assert_array_equal(finished.raw(tmp_path / "y.tflite", inputs), finished.raw(INT8, inputs))


def test_weights_that_end_behind_the_file_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(outsourced(INT8)[0][:-1])
    with pytest.raises(ConvertError, match=r"x\.tflite is cut short: weights end at byte \d+ of \d+; quantize it again"):
        flatbuffer.read(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not a TFLite file"),
        (b"only text that is long enough", "is not a TFLite file"),
        (b"\xff\xff\x00\x00TFL3" + b"\0" * 40, "is cut short or broken"),
        (INT8.read_bytes()[:200], "is cut short or broken"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(data)
    with pytest.raises(ConvertError, match=rf"x\.tflite {message}.*; convert the student again"):
        flatbuffer.read(path)


def name_a_tensor(graph: Any) -> None:
    graph.inputs = [len(graph.tensors)]


def name_a_buffer(graph: Any) -> None:
    graph.tensors[0].buffer = 1000


def name_an_operator_code(graph: Any) -> None:
    graph.operators[0].opcodeIndex = 1000


def read_a_tensor(graph: Any) -> None:
    graph.operators[0].inputs = [-2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (name_a_tensor, r"it names tensor \d+ of \d+"),
        (name_a_buffer, r"it names buffer 1000 of \d+"),
        (name_an_operator_code, r"it names operator code 1000 of \d+"),
        (read_a_tensor, r"it names tensor -2 of \d+"),
    ],
)
def test_a_file_that_names_what_it_does_not_have_is_refused(tmp_path: Path, change: Callable[[Any], None], message: str) -> None:
    model = flatbuffer.read(INT8)
    change(model.subgraphs[0])
    (tmp_path / "x.tflite").write_bytes(flatbuffer.pack(model))
    with pytest.raises(ConvertError, match=rf"x\.tflite is cut short or broken: {message}"):
        flatbuffer.read(tmp_path / "x.tflite")


@pytest.mark.parametrize("name", ["tensors", "inputs", "outputs", "operators"])
def test_what_a_file_leaves_out_is_empty(tmp_path: Path, name: str) -> None:
    model = flatbuffer.read(INT8)
    empty: dict[str, Any] = {"inputs": None, "outputs": None, "operators": None}
    for part in empty if name == "tensors" else [name]:
        setattr(model.subgraphs[0], part, None)
    if name == "tensors":
        model.subgraphs[0].tensors, model.signatureDefs = None, None
    (tmp_path / "x.tflite").write_bytes(flatbuffer.pack(model))
    assert list(getattr(flatbuffer.read(tmp_path / "x.tflite").subgraphs[0], name)) == []


def test_a_file_without_any_graph_is_refused(tmp_path: Path) -> None:
    model = flatbuffer.read(INT8)
    model.subgraphs = None
    (tmp_path / "x.tflite").write_bytes(flatbuffer.pack(model))
    with pytest.raises(ConvertError, match="has 0 subgraphs"):
        flatbuffer.read(tmp_path / "x.tflite")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=r"x\.tflite cannot be read"):
        flatbuffer.read(tmp_path / "x.tflite")


@pytest.mark.parametrize(("kind", "said"), [(1000, "of an unknown type"), (schema.TensorType.STRING, "STRING")])
def test_a_tensor_of_a_type_that_no_engine_takes(kind: int, said: str) -> None:
    stored = schema.TensorT(name=b"pixels", type=kind, shape=[1, 2])
    with pytest.raises(ConvertError, match=f"tensor pixels is {said}, which no engine here takes|expected"):
        describe.tensor(stored)


def test_a_tensor_without_shape_and_zero_point() -> None:
    quantization = schema.QuantizationParametersT(scale=[0.5])
    found = describe.tensor(schema.TensorT(name=b"x", type=schema.TensorType.UINT8, quantization=quantization))
    assert (found.shape, found.quantization) == ([], None)


def test_a_file_of_several_graphs_is_refused(tmp_path: Path) -> None:
    model = flatbuffer.read(INT8)
    model.subgraphs = model.subgraphs * 2
    (tmp_path / "x.tflite").write_bytes(flatbuffer.pack(model))
    with pytest.raises(ConvertError, match="has 2 subgraphs"):
        flatbuffer.read(tmp_path / "x.tflite")


def test_metadata_entries_are_set_replaced_and_read() -> None:
    model = flatbuffer.read(INT8)
    buffers = len(model.buffers)
    assert flatbuffer.metadata(model, "mine") is None
    for data in (b"first", b"second", b""):
        flatbuffer.set_metadata(model, "mine", data)
        assert flatbuffer.metadata(model, "mine") == data
    assert len(model.buffers) == buffers + 1


def test_operators_are_named() -> None:
    model = flatbuffer.read(INT8)
    names = [flatbuffer.operator_name(model, operator) for operator in model.subgraphs[0].operators]
    assert names == ["SUB", "MUL", "PAD", "CONV_2D", "TRANSPOSE", "MEAN", "FULLY_CONNECTED"]
