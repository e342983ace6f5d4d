"""Which version of each operator a file needs, and which runtime is the oldest that has it.

The quantizers leave version 1 on everything; an old runtime then runs an operator that it does not know, and may answer zeros.
What needs which version is in `signatures`, the table is LiteRT's own (tflite/tools/versioning/runtime_version.cc).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgedistill.convert.tflite_file.flatbuffer import metadata, operator_name, set_metadata
from edgedistill.convert.tflite_file.signatures import needed

log = logging.getLogger("edgedistill.convert")

ENTRY = "min_runtime_version"
_ENTRY_BYTES = 16

#: By operator, the TFLite release that brought each version, beginning with version 1.
RUNTIMES: dict[str, tuple[str, ...]] = {
    "ABS": ("1.13.0", "2.4.0", "2.5.0", "2.6.0", "2.12.0"),
    "ADD": ("1.5.0", "1.14.0", "2.4.0", "2.6.0", "2.13.0"),
    "AVERAGE_POOL_2D": ("1.5.0", "1.14.0", "2.3.0"),
    "BATCH_MATMUL": ("2.3.0", "2.3.0", "2.4.0", "2.5.0"),
    "CONCATENATION": ("1.5.0", "1.14.0", "2.3.0", "2.14.0"),
    "CONV_2D": ("1.5.0", "1.14.0", "1.14.0", "2.3.0", "2.4.0", "2.9.0", "2.11.0", "2.15.0"),
    "DEPTHWISE_CONV_2D": ("1.5.0", "1.12.0", "1.14.0", "2.2.0", "2.3.0", "2.3.0", "2.11.0"),
    "DEQUANTIZE": ("1.13.1", "1.14.0", "1.15.0", "2.2.0", "2.7.0", "2.18.0"),
    "DIV": ("1.6.0", "2.3.0"),
    "ELU": ("1.14.0",),
    "EXP": ("1.7.0", "2.12.0"),
    "FULLY_CONNECTED": (
        *("1.5.0", "1.10.0", "1.14.0", "1.14.0", "2.0.0", "2.1.0", "2.3.0", "2.3.0", "2.3.0", "2.11.0", "2.15.0", "2.17.0", "2.18.0"),
    ),
    "GELU": ("2.9.0", "2.9.0"),
    "HARD_SWISH": ("1.15.0",),
    "LEAKY_RELU": ("1.13.1", "2.3.0"),
    "LOGISTIC": ("1.14.0", "1.14.0", "2.3.0"),
    "MAXIMUM": ("1.14.0", "1.14.0", "2.3.0", "2.3.0"),
    "MAX_POOL_2D": ("1.5.0", "1.14.0", "2.3.0"),
    "MEAN": ("1.6.0", "1.14.0", "2.4.0"),
    "MINIMUM": ("1.14.0", "1.14.0", "2.3.0", "2.3.0"),
    "MUL": ("1.5.0", "1.14.0", "1.15.0", "2.3.0", "2.6.0", "2.11.0", "2.13.0"),
    "NEG": ("1.9.0",),
    "PAD": ("1.5.0", "1.14.0", "2.4.0", "2.6.0"),
    "PADV2": ("1.9.0", "1.14.0", "2.4.0", "2.6.0"),
    "PRELU": ("1.8.0",),
    "QUANTIZE": ("1.14.0", "1.15.0", "2.7.0"),
    "RELU": ("1.5.0", "2.1.0", "2.5.0"),
    "RELU6": ("1.5.0", "1.14.0", "2.5.0"),
    "RELU_0_TO_1": ("2.10.0",),
    "RELU_N1_TO_1": ("1.5.0",),
    "RESHAPE": ("1.5.0",),
    "RSQRT": ("1.10.0", "2.5.0", "2.15.0"),
    "SOFTMAX": ("1.5.0", "1.14.0", "2.3.0"),
    "SQRT": ("1.10.0",),
    "SQUARE": ("1.12.0",),
    "SQUEEZE": ("1.6.0", "2.5.0"),
    "SUB": ("1.6.0", "1.14.0", "2.3.0", "2.4.0", "2.4.0"),
    "SUM": ("1.10.0", "1.15.0"),
    "TANH": ("1.14.0", "1.14.0", "2.3.0"),
    "TRANSPOSE": ("1.6.0", "1.14.0", "1.15.0", "2.3.0", "2.4.0", "2.12.0", "2.14.4"),
}


def stamp(model: Any) -> None:
    """Give every operator the version that its tensors need, and the model its minimum runtime.

    A version is never lowered: what the converter knows of an operator may not be in the table. Operators of one kind but
    different versions get codes of their own.
    """
    codes: dict[tuple[int, Any, int], int] = {}
    made = []
    for operator in model.subgraphs[0].operators:
        code = model.operatorCodes[operator.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        version = max(code.version, needed(operator_name(model, operator), operator, model.subgraphs[0].tensors))
        made.append(codes.setdefault((number, code.customCode, version), len(codes)))
    for operator, index in zip(model.subgraphs[0].operators, made, strict=True):
        operator.opcodeIndex = index
    model.operatorCodes = [
        schema.OperatorCodeT(deprecatedBuiltinCode=min(number, 127), builtinCode=number, customCode=custom, version=version)
        for number, custom, version in codes
    ]
    set_metadata(model, ENTRY, minimum(model).encode().ljust(_ENTRY_BYTES, b"\0"))
    if unknown := sorted(set(unlisted(model))):
        log.warning("no runtime is known to be the oldest for %s: the minimum runtime may be too low", ", ".join(unknown))


def minimum(model: Any) -> str:
    """Return the oldest TFLite that has every listed operator of a model in its version, such as 2.17.0."""
    found = ["1.5.0"]
    for name, version in _versions(model):
        known = RUNTIMES.get(name, ())
        found += known[version - 1 : version]
    return max(found, key=_numbers)


def unlisted(model: Any) -> Iterable[str]:
    """Yield the operators that the table does not know in their version, such as `CUMSUM v1`."""
    for name, version in _versions(model):
        if version > len(RUNTIMES.get(name, ())):
            yield f"{name} v{version}"


def stamped(model: Any) -> str:
    """Return the minimum runtime that is stamped in a model, or what its operators' versions say where there is none."""
    entry = metadata(model, ENTRY)
    return entry.rstrip(b"\0").decode("ascii", "replace") if entry and entry.strip(b"\0") else minimum(model)


def _versions(model: Any) -> Iterable[tuple[str, int]]:
    for operator in model.subgraphs[0].operators:
        yield operator_name(model, operator), int(model.operatorCodes[operator.opcodeIndex].version)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
