"""An interpreter of a TFLite file that keeps every value: without delegate and without fusing, since only so all of them are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgedistill.convert.quiet import quietly


def open_keeping(path: Path) -> Any:
    """Return an ai_edge_litert Interpreter with its tensors allocated, whose tensors can all be read after `invoke`."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with quietly():  # keeping all tensors is what is wanted here, and warned of
        interpreter = Interpreter(
            str(path),
            num_threads=1,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
    interpreter.allocate_tensors()
    return interpreter
