"""TFLite files by ai-edge-quantizer: 8-bit weights of one scale a channel, activations of 8 or 16 bits or float, ranges given.

The ranges come from the graph, by tensor: the quantizer's own calibration is a moving average that depends on the images' order.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.bundle import write_atomically
from edgedistill.convert.calibration.rules import is_clip
from edgedistill.convert.quantize import Work
from edgedistill.convert.quantize.tflite_tensors import Tensors, read_tensors
from edgedistill.convert.quiet import quietly
from edgedistill.errors import ConvertError, EdgeDistillError, MissingExtraError, close_matches

#: Operators that XNNPACK was seen to run in float only: in 8 bits each would cut the graph into more parts.
OUTSIDE = ("HARD_SWISH", "AVERAGE_POOL_2D")
_EVERYWHERE = ".*"


def static_int8(work: Work, path: Path) -> None:
    """Write a file with all operators in 8 bits but the last layer, whose logits stay float, and a softmax behind it."""
    _static(work, path, bits=8, islands=())


def static_int8_float_islands(work: Work, path: Path, *, islands: Sequence[str] = OUTSIDE) -> None:
    """Write a file in 8 bits with islands of float.

    Args:
        islands: kinds of operators (`HARD_SWISH`) and layers of the student (`blocks.0.se`) that stay float.
    """
    _static(work, path, bits=8, islands=(*islands, *work.islands))


def int16_activations(work: Work, path: Path) -> None:
    """Write a file with 8-bit weights and 16-bit activations; operators that have no 16-bit form stay float."""
    _static(work, path, bits=16, islands=())


def weight_only_int8(work: Work, path: Path) -> None:
    """Write a file with 8-bit weights that computes in float."""
    with _failures_told(work):
        recipe = _recipe()
        recipe.add_weight_only_config(_EVERYWHERE, "*", 8)
        _write(work, path, recipe=recipe)


def float16(work: Work, path: Path) -> None:
    """Write a file with 16-bit float weights that computes in float."""
    with _failures_told(work):
        recipe = _recipe()
        recipe.add_weight_only_config(_EVERYWHERE, "*", 16, algorithm_key="float_casting")
        _write(work, path, recipe=recipe)


RECIPES: dict[str, Callable[[Work, Path], None]] = {
    "static_int8": static_int8,
    "static_int8_float_islands": static_int8_float_islands,
    "int16_activations": int16_activations,
    "weight_only_int8": weight_only_int8,
    "float16": float16,
}


def _static(work: Work, path: Path, *, bits: int, islands: Sequence[str]) -> None:
    with _failures_told(work):
        recipe = _recipe()
        _check_islands(islands, work)
        tensors = read_tensors(work)
        recipe.add_static_config(_EVERYWHERE, "*", bits, 8)
        for kind in sorted({*islands} & {operator.name for operator in tensors.operators} | {"SOFTMAX", "OUTPUT"}):
            _keep_float(recipe, _EVERYWHERE, kind)
        for name in [tensors.output(tensors.last_layer()), *_outputs_of(islands, work, tensors)]:
            _keep_float(recipe, f"^{re.escape(name)};$", "*")
        _write(work, path, recipe=recipe, tensors=tensors)


def _check_islands(islands: Sequence[str], work: Work) -> None:
    from ai_edge_quantizer.qtyping import TFLOperationName

    kinds = {kind.value for kind in TFLOperationName}
    layers = {layer for layer in work.graph.layers.values() if layer}
    for island in islands:
        if island not in kinds and not any(_is_inside(layer, island) for layer in layers):
            hint = close_matches(island, [*kinds, *layers])
            raise ConvertError(f"the student has no operator and no layer {island!r} to keep in float.{hint}")


def _is_inside(layer: str, island: str) -> bool:
    return layer == island or layer.startswith(f"{island}.")


def _outputs_of(islands: Sequence[str], work: Work, tensors: Tensors) -> list[str]:
    """Return the tensors that the operators of the student's layers among the islands give."""
    layers = _layers_of_nodes(work)
    return [name for name, node in tensors.nodes.items() if any(_is_inside(layer, island) for layer in layers[node] for island in islands)]


def _layers_of_nodes(work: Work) -> dict[str, tuple[str, ...]]:
    """Return the layers that each node's tensor in the file comes from: a clip is part of the operator in front of it."""
    found: dict[str, tuple[str, ...]] = {}
    for node in work.graph.module.graph.nodes:
        own = work.graph.layers.get(node.name, "")
        found[node.name] = (own, *(found[node.args[0].name] if is_clip(node) else ()))
    return found


def _recipe() -> Any:
    try:
        from ai_edge_quantizer import recipe_manager
    except ImportError as error:
        raise MissingExtraError("ai-edge-quantizer", "workstation") from error
    return recipe_manager.RecipeManager()


def _keep_float(recipe: Any, scope: str, operation: str) -> None:
    recipe.add_quantization_config(scope, operation, algorithm_key="no_quantize")


@contextlib.contextmanager
def _failures_told(work: Work) -> Iterator[None]:
    try:
        with quietly():
            yield
    except EdgeDistillError:
        raise
    except Exception as error:  # the quantizer and the interpreter raise ValueError, RuntimeError, KeyError and others
        raise ConvertError(f"ai-edge-quantizer could not quantize {work.fp32.name}: {error}; export without int8") from error


def _write(work: Work, path: Path, *, recipe: Any, tensors: Tensors | None = None) -> None:
    from ai_edge_quantizer import quantizer

    task = quantizer.Quantizer(str(work.fp32), recipe.get_quantization_recipe())
    # One of the quantizer's progress bars cannot be switched off by its arguments.
    with contextlib.redirect_stderr(io.StringIO()):
        result = task.quantize(_statistics(tensors) if tensors else None, enable_progress_bar=False, enable_progress_report=False)
    if not result.quantized_model:
        raise ConvertError(f"ai-edge-quantizer made nothing of {work.fp32.name}; export without int8")
    write_atomically(path, bytes(result.quantized_model))


def _statistics(tensors: Tensors) -> dict[str, dict[str, np.ndarray]]:
    """Return the ranges as the quantizer's own calibration would give them."""
    found = {}
    for name, (low, high) in tensors.ranges.items():
        shape = (1,) * tensors.ranks[name]
        found[name] = {"min": np.full(shape, low, np.float32), "max": np.full(shape, high, np.float32)}
    return found
