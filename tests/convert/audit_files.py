"""TFLite files with operators that XNNPACK does not run, made of the committed tiny ones."""

from __future__ import annotations

import copy
from pathlib import Path

import tiny_bundle
from ai_edge_litert import schema_py_generated as schema

from edgedistill.convert.tflite_file.flatbuffer import new_buffer, operator_name, pack, read

INT8, FP32 = tiny_bundle.DATA / "tiny-int8.tflite", tiny_bundle.DATA / "tiny-fp32.tflite"


def with_hard_swish(source: Path, path: Path, *, count: int = 1) -> Path:
    """Write a file with `count` hard-swishes one after the other behind the convolution."""
    model = read(source)
    graph = model.subgraphs[0]
    number = schema.BuiltinOperator.HARD_SWISH
    model.operatorCodes.append(schema.OperatorCodeT(deprecatedBuiltinCode=number, builtinCode=number))
    place = next(i for i, operator in enumerate(graph.operators) if operator_name(model, operator) == "CONV_2D")
    made = int(graph.operators[place].outputs[0])
    for step in range(count):
        tensor = copy.copy(graph.tensors[made])
        tensor.buffer, tensor.name = new_buffer(model), f"swish_{step}"
        graph.tensors.append(tensor)
        new = schema.OperatorT(opcodeIndex=len(model.operatorCodes) - 1, inputs=[made], outputs=[len(graph.tensors) - 1])
        for operator in graph.operators[place + 1 :]:
            operator.inputs = [len(graph.tensors) - 1 if index == made else index for index in operator.inputs]
        place, made = place + 1, len(graph.tensors) - 1
        graph.operators.insert(place, new)
    path.write_bytes(pack(model))
    return path
