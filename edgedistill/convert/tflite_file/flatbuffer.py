"""A TFLite file as objects that can be changed, and back to bytes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgedistill.errors import ConvertError

IDENTIFIER = b"TFL3"
#: Interpreters read weights in place, and ask for them at multiples of this.
ALIGNMENT = 16

#: The schema's names of operators and of types, by number.
OPERATORS = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
TYPES = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}


class _Buffer(schema.BufferT):
    """A buffer whose bytes lie aligned in the file; as the schema's own class packs them, they lie anywhere."""

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802
        data = None
        if self.data is not None and len(self.data):
            builder.StartVector(1, len(self.data), ALIGNMENT)
            builder.head -= len(self.data)
            builder.Bytes[builder.head : builder.head + len(self.data)] = bytes(self.data)
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        packed: int = schema.BufferEnd(builder)
        return packed


def read(path: Path) -> Any:
    """Return a file's `ModelT` with one subgraph, all weights in its buffers.

    ai-edge-quantizer keeps large weights behind the flatbuffer and only their place in it; packing that again would lose them.
    Raises ConvertError for what is no TFLite file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConvertError(f"{path} cannot be read: {error}; convert the student again") from error
    if data[4:8] != IDENTIFIER:
        raise ConvertError(f"{path.name} is not a TFLite file: it lacks the identifier {IDENTIFIER.decode()}; convert the student again")
    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        subgraphs = len(model.subgraphs or [])
        if subgraphs == 1:
            _check_indices(model)
    except (struct.error, IndexError, TypeError, ValueError, OverflowError) as error:
        raise ConvertError(f"{path.name} is cut short or broken: {error}; convert the student again") from error
    if subgraphs != 1 or model.externalBuffers:
        raise ConvertError(f"{path.name} has {subgraphs} subgraphs or weights in other files; a classifier is one graph in one file")
    model.buffers = [_inlined(buffer, data, path.name) for buffer in model.buffers]
    return model


def _check_indices(model: Any) -> None:
    """Raise ValueError where a model names a tensor, buffer or operator that it does not have; make empty lists of absent ones."""
    graph = model.subgraphs[0]
    _fill(model, "operatorCodes", "buffers")
    _fill(graph, "tensors", "inputs", "outputs", "operators")
    for operator in graph.operators:
        _fill(operator, "inputs", "outputs")
        _check_within("tensor", [index for index in operator.inputs if index != -1], graph.tensors)  # -1 stands for one that is left out
        _check_within("tensor", operator.outputs, graph.tensors)
    _check_within("tensor", [*graph.inputs, *graph.outputs], graph.tensors)
    _check_within("operator code", [operator.opcodeIndex for operator in graph.operators], model.operatorCodes)
    _check_within("buffer", [part.buffer for part in (*graph.tensors, *(model.metadata or []))], model.buffers)


def _fill(part: Any, *names: str) -> None:
    for name in names:
        if getattr(part, name) is None:
            setattr(part, name, [])


def _check_within(what: str, indices: Sequence[int], there: Sequence[Any]) -> None:
    for index in indices:
        if not 0 <= index < len(there):
            raise ValueError(f"it names {what} {index} of {len(there)}")


def _inlined(buffer: Any, data: bytes, name: str) -> _Buffer:
    if buffer.offset <= 1:  # 0 and 1 stand for: in the buffer itself
        return _Buffer(buffer.data)
    if buffer.offset + buffer.size > len(data):
        raise ConvertError(f"{name} is cut short: weights end at byte {buffer.offset + buffer.size} of {len(data)}; quantize it again")
    return _Buffer(np.frombuffer(data, np.uint8, buffer.size, buffer.offset))


def pack(model: Any) -> bytes:
    """Return the bytes of a model; the same model gives the same bytes."""
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def text(value: bytes | str | None) -> str:
    """Return a name of a model, which is bytes where it was read and text where it was set."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


def operator_name(model: Any, operator: Any) -> str:
    """Return the name of an operator such as CONV_2D."""
    code = model.operatorCodes[operator.opcodeIndex]
    # Old readers know codes up to 127 only, in a field of their own; the larger of the two counts.
    return OPERATORS.get(max(code.builtinCode, code.deprecatedBuiltinCode), "UNKNOWN")


def new_buffer(model: Any, data: bytes | None = None) -> int:
    """Add a buffer to a model and return its number."""
    model.buffers.append(_buffer(data))
    return len(model.buffers) - 1


def _buffer(data: bytes | None) -> _Buffer:
    return _Buffer(None if data is None else np.frombuffer(data, np.uint8))


def set_metadata(model: Any, name: str, data: bytes) -> None:
    """Set one of a model's metadata entries."""
    for entry in model.metadata or []:
        if text(entry.name) == name:
            model.buffers[entry.buffer] = _buffer(data)
            return
    model.metadata = [*(model.metadata or []), schema.MetadataT(name=name, buffer=new_buffer(model, data))]


def metadata(model: Any, name: str) -> bytes | None:
    """Return one of a model's metadata entries, None if it has none of that name."""
    for entry in model.metadata or []:
        if text(entry.name) == name:
            data = model.buffers[entry.buffer].data
            return b"" if data is None else bytes(data)
    return None
