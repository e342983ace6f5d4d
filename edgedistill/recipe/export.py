"""The [export] table of a recipe: what is made of the student, and what it may lose."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edgedistill.recipe.kinds import AboveZero, Fraction, Positive, Table

#: Ways to quantize, in the order in which `auto` tries them; `convert.quantize` has a function for each.
Quantization = Literal["static_int8", "static_int8_float_islands", "int16_activations", "weight_only_int8", "float16"]


class QuantizationAware(Table, frozen=True, kw_only=True):
    """Training with fake quantization, taught by the fp32 teacher, for `export.int8 = "qad"`."""

    epochs: Positive = 3
    lr: AboveZero = 1e-4
    batch_size: Positive = 64
    range_lr: AboveZero = 1e-3
    """Of the ranges' ends, as parts of the ranges: 0.001 is about a thousandth a step."""
    temperature: AboveZero = 4.0
    labels: Fraction = 0.1
    """Weight of the labels' cross-entropy; the rest is the teacher's."""
    freeze_ranges: Fraction = 0.5
    """Fraction of the steps after which the ranges stay as they are."""


class Export(Table, frozen=True, kw_only=True):
    """What `edgedistill export` makes of the student, and what it may lose."""

    formats: tuple[Literal["onnx", "tflite"], ...] = ("onnx", "tflite")
    fp32: bool = True
    """Keep the fp32 files in the bundle; they are made and compared in any case."""
    int8: bool | Literal["auto", "qad"] | Quantization = True
    """How to quantize; true is `auto`: the first way that is right and fast."""
    equalize: bool = True
    """In `auto`, also try the student with equalized channels and corrected biases; `qad` starts from it."""
    author: str = ""
    """Who made the student, for the files' metadata."""
    softmax: bool = False
    """Give probabilities instead of logits."""
    target: str = "arm"
    """What the files are to be fast on: `arm` (64-bit, with int8 instructions), `here`, or a board's folder such as devices/rpi4."""
    strict: bool = False
    """Fail where an int8 file is slower than fp32 here, or runs in several parts."""
    calibration: Positive = 512
    """Real training images that the int8 ranges are taken from."""
    ranges: Literal["minmax", "percentile", "mse"] = "percentile"
    """How a range is chosen from the values of the calibration images."""
    parity_images: Annotated[int, msgspec.Meta(ge=256)] = 2000
    """Held-out images that the files are compared on."""
    min_agreement: Fraction = 0.999
    """Smallest top-1 agreement of an fp32 file with the student in torch."""
    max_int8_drop: Fraction = 0.005
    """Largest loss of accuracy of an int8 file against the student in torch."""
    qad: QuantizationAware = QuantizationAware()
