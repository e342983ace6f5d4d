"""The float tensors of an fp32 TFLite file: which node of the graph each is, and the range that follows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedistill.convert.calibration import Range, match
from edgedistill.convert.describe import Operator, read_operators
from edgedistill.convert.keeping import open_keeping
from edgedistill.convert.quantize import Work

#: Images that tensors are told apart on.
_PROBES = 4


@dataclass(frozen=True, kw_only=True)
class Tensors:
    """A file's operators, its activations by index, and what is known of these by name."""

    operators: list[Operator]
    names: dict[int, str]
    ranks: dict[str, int]
    nodes: dict[str, str]
    ranges: dict[str, Range]

    def last_layer(self) -> Operator:
        """Return the operator that gives the logits."""
        return next(operator for operator in reversed(self.operators) if operator.name != "SOFTMAX")

    def output(self, operator: Operator) -> str:
        """Return the name of the tensor that an operator gives."""
        return self.names[operator.outputs[0]]


def read_tensors(work: Work) -> Tensors:
    """Match the tensors of `work.fp32` with the graph; ranges of those that no node gives are taken from the file itself."""
    operators, inputs = read_operators(work.fp32)
    interpreter = open_keeping(work.fp32)
    made = {*inputs, *(index for operator in operators for index in operator.outputs)}
    details = {one["index"]: one for one in interpreter.get_tensor_details() if one["index"] in made and one["dtype"] == np.float32}
    names = {index: str(one["name"]) for index, one in details.items()}
    probes = list(_values(interpreter, work, work.pixels_nhwc[:_PROBES], names))
    stacked = {name: np.concatenate([values[name] for values in probes]) for name in names.values()}
    nodes = match(work.graph, stacked, work.pixels_nhwc)
    ranges = {name: work.ranges[node] for name, node in nodes.items()}
    ends = {names[index] for operator in operators if operator.name == "SOFTMAX" for index in operator.outputs}
    unknown = {index: name for index, name in names.items() if name not in ranges and name not in ends}
    ranks = {str(one["name"]): len(one["shape"]) for one in details.values()}
    return Tensors(
        operators=operators,
        names=names,
        ranks=ranks,
        nodes=nodes,
        ranges=ranges | (_measured(interpreter, work, unknown) if unknown else {}),
    )


def _measured(interpreter: Any, work: Work, names: dict[int, str]) -> dict[str, Range]:
    """Return the smallest and largest values of tensors that converters have made of their own, with 0."""
    lows, highs = dict.fromkeys(names.values(), 0.0), dict.fromkeys(names.values(), 0.0)
    for values in _values(interpreter, work, work.pixels_nhwc, names):
        for name, value in values.items():
            lows[name], highs[name] = min(lows[name], float(value.min())), max(highs[name], float(value.max()))
    return {name: Range(low, highs[name]) for name, low in lows.items()}


def _values(interpreter: Any, work: Work, pixels_nhwc: np.ndarray, names: dict[int, str]) -> Iterator[dict[str, np.ndarray]]:
    index = interpreter.get_input_details()[0]["index"]
    for image in pixels_nhwc:
        interpreter.set_tensor(index, image[np.newaxis].astype(np.float32) - work.graph.pixel_mean)
        interpreter.invoke()
        yield {name: interpreter.get_tensor(index) for index, name in names.items()}
