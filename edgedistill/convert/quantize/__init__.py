"""The ways to make a smaller file of an fp32 file, by format and name; `tflite` and `onnx` have one function each.

All of them take their ranges from the same `Work`. Whether a file answers rightly and runs fast is not asked here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgedistill.convert.calibration.span import Ranges
from edgedistill.convert.graph import Graph
from edgedistill.errors import ConvertError, close_matches

#: Formats that have recipes, each with a module of its name.
FORMATS = ("onnx", "tflite")


@dataclass(frozen=True, kw_only=True)
class Work:
    """What every recipe starts from.

    Args:
        graph: the student that the file was written from.
        fp32: the file as the converter wrote it; it takes float32 pixels minus `graph.pixel_mean` and gives logits.
        ranges: by node of the graph.
        pixels_nhwc: (N, H, W, 3) uint8 RGB, the calibration images; the first are probes to match tensors with nodes.
        islands: layers of the student that `static_int8_float_islands` keeps in float beside those that it always does.
    """

    graph: Graph
    fp32: Path
    ranges: Ranges
    pixels_nhwc: np.ndarray
    islands: tuple[str, ...] = ()


Recipe = Callable[[Work, Path], None]


def quantize(kind: str, name: str, work: Work, path: Path) -> None:
    """Write the file that the recipe `name` of a format (onnx, tflite) makes of `work.fp32`.

    Raises ConvertError and MissingExtraError.
    """
    recipes = _recipes(kind)
    if name not in recipes:
        raise ConvertError(f"{kind} has no quantization {name!r}, known are {', '.join(recipes)}.{close_matches(name, list(recipes))}")
    recipes[name](work, path)


def names(kind: str) -> tuple[str, ...]:
    """Return the recipes of a format, in the order in which they are tried."""
    return tuple(_recipes(kind))


def _recipes(kind: str) -> dict[str, Recipe]:
    if kind not in FORMATS:
        raise ConvertError(f"there is no format {kind!r} to quantize, known are {', '.join(FORMATS)}")
    recipes: dict[str, Recipe] = importlib.import_module(f"{__name__}.{kind}").RECIPES
    return recipes
