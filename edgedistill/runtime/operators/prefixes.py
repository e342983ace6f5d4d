"""What each operator of a TFLite file takes: the file cut after each of its operators, two neighbouring cuts timed in turn.

A cut needs no library, because it only changes two numbers of the file in place: how many operators there are, and which tensor
is the output. The cut file runs as the whole one does, on the same delegate. What the call itself costs, and handing out the
last operator's output, is in both of two neighbours and falls out of the difference.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from edgedistill.errors import EngineError
from edgedistill.runtime.operators.found import Timed, timed

#: Numbers of fields in TFLite's flatbuffer schema.
MODEL_SUBGRAPHS, SUBGRAPH_OUTPUTS, SUBGRAPH_OPERATORS = 2, 2, 3


class Node(NamedTuple):
    """An operator as the interpreter tells of it: name and number of its first output, multiplications, bytes read and written."""

    name: str
    type: str
    output: int
    macs: int
    bytes: int


class Places(NamedTuple):
    """Where a TFLite file keeps the number of operators, which number it is, and where it keeps the output's tensor."""

    operator_count: int
    operators: int
    output: int


def nodes(interpreter: Any) -> list[Node]:
    """Return the operators of an interpreter's file, in the order they run in, without the delegate's."""
    tensors = {int(one["index"]): one for one in interpreter.get_tensor_details()}
    details = [one for one in interpreter._get_ops_details() if one["op_name"] != "DELEGATE"]  # no public call tells the operators
    return [_node(one, tensors) for one in details]


def _node(operator: dict[str, Any], tensors: dict[int, dict[str, Any]]) -> Node:
    inputs = [tensors[int(index)] for index in operator["inputs"] if int(index) in tensors]
    outputs = [tensors[int(index)] for index in operator["outputs"] if int(index) in tensors]
    size = sum(_elements(one) * np.dtype(one["dtype"]).itemsize for one in [*inputs, *outputs])
    output = outputs[0]
    return Node(output["name"], operator["op_name"], int(output["index"]), macs(operator["op_name"], inputs, outputs), size)


def macs(kind: str, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> int:
    """Return how many multiplications with additions an operator makes; 0 for all that are not made of them."""
    made = _elements(outputs[0])
    if kind == "CONV_2D":  # weights (out, height, width, in)
        return made * math.prod(_shape(inputs[1])[1:])
    if kind == "DEPTHWISE_CONV_2D":  # weights (1, height, width, out)
        return made * math.prod(_shape(inputs[1])[1:3])
    if kind == "FULLY_CONNECTED":  # weights (out, in)
        return made * _shape(inputs[1])[-1]
    if kind == "TRANSPOSE_CONV":  # inputs are shape, weights (out, height, width, in), image
        return _elements(inputs[2]) * math.prod(_shape(inputs[1])[:3])
    return made * _shape(inputs[0])[-1] if kind == "BATCH_MATMUL" else 0


def _shape(tensor: dict[str, Any]) -> list[int]:
    return [int(side) for side in tensor["shape"]]


def _elements(tensor: dict[str, Any]) -> int:
    return math.prod(_shape(tensor))


def places(file: bytes) -> Places:
    """Return where a file with one graph and one output keeps the numbers that a cut changes; EngineError for any other file."""
    try:
        model = _follow(file, 0)
        graphs = _follow(file, _field(file, model, MODEL_SUBGRAPHS))
        graph = _follow(file, graphs + 4)
        operators = _follow(file, _field(file, graph, SUBGRAPH_OPERATORS))
        outputs = _follow(file, _field(file, graph, SUBGRAPH_OUTPUTS))
        counts = [struct.unpack_from("<I", file, place)[0] for place in (graphs, operators, outputs)]
        struct.unpack_from("<i", file, outputs + 4)  # is within the file
    except struct.error as error:
        raise EngineError(f"the file is no TFLite file: {error}; copy the bundle again") from error
    if counts[0] != 1 or counts[1] < 1 or counts[2] != 1:
        raise EngineError(
            f"a file with {counts[0]} graphs, {counts[1]} operators and {counts[2]} outputs cannot be cut; one graph, one output"
        )
    return Places(operators, counts[1], outputs + 4)


def _follow(file: bytes, place: int) -> int:
    return place + int(struct.unpack_from("<I", file, place)[0])


def _field(file: bytes, table: int, number: int) -> int:
    """Return where a table keeps a field; struct.error if it has none."""
    layout = table - struct.unpack_from("<i", file, table)[0]
    length = struct.unpack_from("<H", file, layout)[0]
    offset = struct.unpack_from("<H", file, layout + 4 + 2 * number)[0] if 4 + 2 * number < length else 0
    if offset == 0:
        raise struct.error(f"a table has no field {number}")
    return table + int(offset)


def cut(file: bytes, at: Places, *, operators: int, output: int) -> bytes:
    """Return the file with only its first operators, and this tensor as the output."""
    changed = bytearray(file)
    struct.pack_into("<I", changed, at.operator_count, operators)
    struct.pack_into("<i", changed, at.output, output)
    return bytes(changed)


def time_each(
    prefixes: Sequence[Callable[[], Callable[[], object]]],
    *,
    seconds: float,
    most: int,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> list[Timed]:
    """Return what each prefix takes longer than the one before it; the first one is held against nothing.

    Args:
        prefixes: open the network cut after the first operator, the second and so on, and return what runs it. Two are open at a time.
        seconds: how long a pair is measured at most.
        most: how many times it is run at most, at least 5 times all the same.
        clock: nanoseconds.
    """
    found = []
    before: Callable[[], object] = lambda: None  # noqa: E731
    for opened in prefixes:
        run = opened()
        run()
        taken = _in_turn(run, before, seconds=seconds, most=most, clock=clock)
        found.append(timed(taken[:, 0] - taken[:, 1]))
        before = run
    return found


def _in_turn(one: Callable[[], object], other: Callable[[], object], *, seconds: float, most: int, clock: Callable[[], int]) -> np.ndarray:
    """Run both in turn and return milliseconds, (times, 2)."""
    taken: list[tuple[float, float]] = []
    until_ns = clock() + int(seconds * 1e9)
    while len(taken) < 5 or (len(taken) < most and clock() < until_ns):
        start = clock()
        other()
        between = clock()
        one()
        end = clock()
        taken.append(((end - between) / 1e6, (between - start) / 1e6))
    return np.array(taken)
