"""The operators of a TFLite file that XNNPACK does not run, by name and number, with their share of the time.

The interpreter tells of each part of the delegate which tensors go in and out; the operators between them are inside, all others
outside. From Python no operator of a running file can be timed. So the operators outside are cut out: a file of those of one
name alone, run without delegate, which is how they run in the whole file. What the call itself costs is measured on a file
without operators and taken off. All these and the whole file are timed in turn. The share leaves out what is lost at the
borders, where the delegate hands over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgedistill.convert.audit.speed import Limits, Run, interleaved
from edgedistill.errors import ConvertError

LIMITS = Limits(seconds=0.6, fewest=9, most=100)


class Outside(NamedTuple):
    """Operators of one name outside of the delegate: how many, and their share of the file's time, 0 to 1."""

    number: int
    share: float


class Parts(NamedTuple):
    """The delegate's parts, the operators outside of it as pairs of index and name, and all operators by name."""

    partitions: int
    outside: tuple[tuple[int, str], ...]
    operators: dict[str, int]


def parts(path: Path) -> Parts:
    """Return what of a TFLite file XNNPACK runs."""
    interpreter = _interpreter(path)
    details = interpreter._get_ops_details()  # no public call tells the delegate's parts
    delegates = [one for one in details if one["op_name"] == "DELEGATE"]
    operators = [one for one in details if one["op_name"] != "DELEGATE"]
    maker = {int(tensor): one for one in operators for tensor in one["outputs"]}
    inside: set[int] = set()
    for delegate in delegates:
        borders = {int(tensor) for tensor in delegate["inputs"]}
        waiting = [int(tensor) for tensor in delegate["outputs"]]
        while waiting:
            tensor = waiting.pop()
            operator = maker.get(tensor)
            if tensor in borders or operator is None or operator["index"] in inside:
                continue
            inside.add(operator["index"])
            waiting += [int(read) for read in operator["inputs"]]
    outside = tuple((one["index"], one["op_name"]) for one in operators if one["index"] not in inside)
    return Parts(len(delegates), outside, dict(Counter(one["op_name"] for one in operators)))


def outside(path: Path, found: Parts, *, limits: Limits = LIMITS) -> dict[str, Outside]:
    """Time the operators outside of the delegate and return them by name, the costliest first."""
    if not found.outside:
        return {}
    counts = Counter(name for _, name in found.outside)
    cuts = [only(path, [index for index, name in found.outside if name == wanted]) for wanted in counts]
    runs: list[Run] = [_interpreter(path).invoke, *(_interpreter(cut, delegate=False).invoke for cut in [only(path, []), *cuts])]
    whole, empty, *groups = np.median(interleaved(runs, limits=limits), axis=(1, 2))
    shares = [min(1.0, max(0.0, float((group - empty) / whole))) for group in groups]
    pairs = zip(counts.items(), shares, strict=True)
    return {name: Outside(number, share) for (name, number), share in sorted(pairs, key=lambda pair: -pair[1])}


def only(path: Path, indices: Sequence[int]) -> bytes:
    """Return a TFLite file of some of a file's operators; what they read of others is its input. Without any, it returns its input."""
    from edgedistill.convert.tflite_file.flatbuffer import pack, read

    model = read(path)
    graph = model.subgraphs[0]
    graph.operators = [graph.operators[index] for index in indices]
    if graph.operators:
        made = [int(tensor) for operator in graph.operators for tensor in operator.outputs]
        needed = dict.fromkeys(int(tensor) for operator in graph.operators for tensor in operator.inputs if tensor >= 0)
        constant = {tensor for tensor in needed if _has_data(model, graph.tensors[tensor])}
        graph.inputs = [tensor for tensor in needed if tensor not in constant and tensor not in made]
        graph.outputs = made
    else:
        graph.outputs = list(graph.inputs)
    model.signatureDefs, model.metadata = [], []
    return pack(model)


def _has_data(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def _interpreter(model: Path | bytes, *, delegate: bool = True) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.AUTO if delegate else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    source = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
    try:
        interpreter = Interpreter(**source, num_threads=1, experimental_op_resolver_type=resolver)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        name = model.name if isinstance(model, Path) else "an operator cut out of a file"
        raise ConvertError(f"LiteRT refuses {name}: {error}; export again with the tested versions of constraints.txt") from error
    return interpreter
