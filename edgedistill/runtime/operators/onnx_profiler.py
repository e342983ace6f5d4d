"""What each operator of an ONNX file takes, by onnxruntime's own profiler."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgedistill.errors import EngineError

#: How the profiler marks the run of an operator's kernel.
KERNEL = "_kernel_time"


class Kernel(NamedTuple):
    """An operator: what it took in each run, and the bytes it reads and writes."""

    name: str
    type: str
    taken_ms: tuple[float, ...]
    bytes: int | None


def profiled(path: Path, pixels: np.ndarray, *, threads: int, warmup: int, runs: int) -> list[Kernel]:
    """Run a file with the profiler on and return its operators in the order they ran in; the profiler's file is removed.

    Args:
        pixels: what the file takes as input.
    """
    import onnxruntime

    from edgedistill.runtime.ort import session_options

    with tempfile.TemporaryDirectory(prefix="edgedistill-") as folder:
        options = session_options(threads)
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder, "operators"))
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        for _ in range(warmup + runs):
            session.run(None, {name: pixels})
        text = Path(session.end_profiling()).read_text()
    return kernels(text, runs=runs)


def kernels(text: str, *, runs: int) -> list[Kernel]:
    """Return the operators of what the profiler wrote, each with its last `runs` runs.

    Raises EngineError where the text is none that this understands: onnxruntime may change it.
    """
    taken: dict[tuple[str, str], list[float]] = {}
    told: dict[tuple[str, str], Mapping[str, Any]] = {}
    try:
        for event in json.loads(text):
            if event.get("cat") == "Node" and event["name"].endswith(KERNEL):
                node = (event["name"].removesuffix(KERNEL), event["args"]["node_index"])  # two may have the same name
                taken.setdefault(node, []).append(float(event["dur"]) / 1e3)
                told[node] = event["args"]
        found = [Kernel(node[0], str(told[node]["op_name"]), tuple(ms[-runs:]), _bytes(told[node])) for node, ms in taken.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"onnxruntime's profile cannot be read: {error!r}; use a version from 1.20 on") from error
    if not found:
        raise EngineError("onnxruntime's profile names no operator; use a version from 1.20 on")
    return found


def _bytes(told: Mapping[str, Any]) -> int | None:
    sizes = [str(told.get(key)) for key in ("activation_size", "parameter_size", "output_size")]
    return sum(map(int, sizes)) if all(size.isdigit() for size in sizes) else None
