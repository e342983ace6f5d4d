"""An fp32 TFLite file made int8: static, per-channel symmetric weights, per-tensor asymmetric activations.

The ranges hold the smallest and largest values of all calibration images but the few most extreme ones, which would
cost all others their resolution. The quantizer's own calibration is a moving average that depends on the images' order.
The input is int8 with scale 1 and zero point -128, so that a stored value is the camera's byte less 128. Hard-swish stays
float: int8 hard-swish is not among XNNPACK's operators and would cut the graph into as many pieces as there are activations.
"""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.bundle import write_atomically
from edgedistill.convert.describe import read_operators
from edgedistill.convert.quiet import quietly
from edgedistill.errors import ConvertError, MissingExtraError

#: Percent of the calibration images whose extremes a range holds: the same for every order of the images.
KEPT = 99.5
#: Operators that normalization consists of after conversion.
_ELEMENTWISE = ("ADD", "SUB", "MUL", "DIV")

Ranges = dict[str, dict[str, np.ndarray]]


def quantize_tflite(source: Path, path: Path, *, pixels_nhwc: np.ndarray) -> None:
    """Quantize the fp32 file `source` into `path`.

    Args:
        pixels_nhwc: (N, H, W, 3) uint8 RGB calibration pixels.
    """
    with quietly():
        try:
            from ai_edge_quantizer import quantizer
        except ImportError as error:
            raise MissingExtraError("ai-edge-quantizer", "workstation") from error
        try:
            ranges = ranges_of(source, pixels_nhwc)
            work = quantizer.Quantizer(str(source), _recipe())
            # One of the quantizer's progress bars cannot be switched off by its arguments.
            with contextlib.redirect_stderr(io.StringIO()):
                result = work.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
        except Exception as error:
            raise ConvertError(f"ai-edge-quantizer could not quantize {source.name}: {error}; export without int8") from error
    if not result.quantized_model:
        raise ConvertError(f"ai-edge-quantizer made nothing of {source.name}; export without int8")
    write_atomically(path, bytes(result.quantized_model))


def _recipe() -> list[dict[str, Any]]:
    from ai_edge_quantizer import algorithm_manager, qtyping, recipe, recipe_manager

    rules = recipe_manager.RecipeManager()
    rules.load_quantization_recipe(recipe.static_wi8_ai8())
    keep_float = algorithm_manager.AlgorithmName.NO_QUANTIZE
    rules.add_quantization_config(regex=".*", operation_name=qtyping.TFLOperationName.HARD_SWISH, algorithm_key=keep_float)
    found: list[dict[str, Any]] = rules.get_quantization_recipe()
    return found


def ranges_of(source: Path, pixels_nhwc: np.ndarray) -> Ranges:
    """Return the range of every activation over all images but the most extreme ones (`KEPT`), by tensor name.

    The input and the normalized image get what their arithmetic allows, black to white, and not what the images show.
    """
    from ai_edge_litert.interpreter import Interpreter

    with quietly():  # keeping all tensors is what is wanted here, and warned of
        interpreter = Interpreter(str(source), num_threads=1, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    activations, normalization = _tensors(source)
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    floats = [index for index in activations if details[index]["dtype"] == np.float32]
    black_and_white = np.stack([np.zeros_like(pixels_nhwc[0]), np.full_like(pixels_nhwc[0], 255)])
    found = _extremes(interpreter, floats, pixels_nhwc, kept=KEPT) | _extremes(interpreter, normalization, black_and_white, kept=100)
    ranges: Ranges = {}
    for index, (low, high) in found.items():
        shape = (1,) * len(details[index]["shape"])
        ranges[details[index]["name"]] = {"min": np.full(shape, low, np.float32), "max": np.full(shape, high, np.float32)}
    return ranges


def _extremes(interpreter: Any, indices: Sequence[int], pixels_nhwc: np.ndarray, *, kept: float) -> dict[int, tuple[float, float]]:
    """Return the range of each tensor that holds the extremes of `kept` percent of the images."""
    lows: dict[int, list[float]] = defaultdict(list)
    highs: dict[int, list[float]] = defaultdict(list)
    input_index = interpreter.get_input_details()[0]["index"]
    for image in pixels_nhwc:
        interpreter.set_tensor(input_index, image[np.newaxis].astype(np.float32))
        interpreter.invoke()
        for index in indices:
            value = interpreter.get_tensor(index)
            lows[index].append(float(value.min()))
            highs[index].append(float(value.max()))
    return {index: (float(np.percentile(lows[index], 100 - kept)), float(np.percentile(highs[index], kept))) for index in lows}


def _tensors(source: Path) -> tuple[list[int], list[int]]:
    """Return the indices of a file's activations, and those of them that are the input on its way to the normalized image."""
    operators, inputs = read_operators(source)
    activations, normalization = list(inputs), list(inputs)
    for operator in operators:
        varying = [index for index in operator.inputs if index in activations]
        if operator.name in _ELEMENTWISE and varying == normalization[-1:]:
            normalization += operator.outputs
        activations += operator.outputs
    return activations, normalization
