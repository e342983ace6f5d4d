"""Where a network's time goes, operator by operator; how that was found depends on the interpreter, and is always said.

onnxruntime has a profiler of its own, see `onnx_profiler`. LiteRT shows none to Python: there the network is cut after each operator,
and two neighbouring cuts are timed in turn, see `prefixes`. Where a file cannot be cut, what it has to multiply is counted.
`show` makes a table and a picture of it.
"""

from edgedistill.runtime.operators.found import METHODS, Found, Operator, top
from edgedistill.runtime.operators.measure import OperatorOptions, profile_operators
from edgedistill.runtime.operators.show import as_json, as_text, draw, write_picture

__all__ = [
    "METHODS",
    "Found",
    "Operator",
    "OperatorOptions",
    "as_json",
    "as_text",
    "draw",
    "profile_operators",
    "top",
    "write_picture",
]
