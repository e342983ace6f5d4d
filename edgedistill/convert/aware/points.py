"""What an int8 TFLite file rounds: the nodes of the graph that it stores in 8 bits, and whose range each of them has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgedistill.convert.describe import read_operators
from edgedistill.convert.quantize import Work
from edgedistill.convert.quantize.tflite_tensors import read_tensors

#: Operators whose output has their input's range: https://ai.google.dev/edge/litert/models/quantization_spec.
_SHARING = frozenset(
    {"AVERAGE_POOL_2D", "MAX_POOL_2D", "PAD", "RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "SLICE", "STRIDED_SLICE", "SPLIT", "GATHER"}
)
#: Operators that only change how their input is stored.
_STORING = ("QUANTIZE", "DEQUANTIZE")


@dataclass(frozen=True, kw_only=True)
class Points:
    """Where a file rounds.

    Args:
        stored: by node that the file has in 8 bits, the node whose range it has: mostly its own.
        floating: nodes that the file computes in float32, with float32 weights where there are any.
    """

    stored: Mapping[str, str]
    floating: frozenset[str] = field(default_factory=frozenset)


def points_of(path: Path, work: Work) -> Points:
    """Return what an int8 file rounds that was made from `work.fp32`."""
    return points_in(path, read_tensors(work).nodes)


def points_in(path: Path, matched: Mapping[str, str]) -> Points:
    """Return what a file rounds, given the node of each of its tensors by the name that it had in fp32."""
    from ai_edge_litert.interpreter import Interpreter

    operators, inputs = read_operators(path)
    tensors = {detail["index"]: detail for detail in Interpreter(str(path), num_threads=1).get_tensor_details()}
    nodes = {index: matched[detail["name"]] for index, detail in tensors.items() if detail["name"] in matched}
    stored, floating = {nodes[index]: nodes[index] for index in inputs if tensors[index]["dtype"] != np.float32}, set()
    for operator in operators:
        first, *_ = operator.inputs
        for output in operator.outputs:
            if operator.name in _STORING and first in nodes:
                nodes[output] = nodes[first]
            if (node := nodes.get(output)) is None:
                continue
            if tensors[output]["dtype"] != np.float32:
                source = stored.get(nodes.get(first, ""), node)
                # A range that a node has already stays: a second tensor of its values, moved, is no new one.
                stored.setdefault(node, source if operator.name in _SHARING else node)
            elif operator.name not in _STORING:
                floating.add(node)
    return Points(stored=stored, floating=frozenset(floating))
