"""The manifest of a bundle: what manifest.json holds, as records that check themselves, and how its bytes become them.

Paths, checksums and files are `bundle`'s business, which also gives all names of this module to whoever uses bundles.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec

from edgedistill.errors import BundleError
from edgedistill.validation import to_struct

FORMAT = 1
MANIFEST_NAME = "manifest.json"

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Name = Annotated[str, msgspec.Meta(min_length=1)]
StudentForm = Literal["trained", "equalized", "quantization_aware"]
Scores = Literal["logits", "probabilities"]


class _Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frozen record that refuses unknown keys."""


class Quantization(_Struct, frozen=True, kw_only=True):
    """Affine quantization of a tensor: real = scale * (stored - zero_point)."""

    scale: Annotated[float, msgspec.Meta(gt=0)]
    zero_point: int


class Tensor(_Struct, frozen=True, kw_only=True):
    """One input or output of a model file; batch is 1."""

    name: str
    shape: list[Positive]
    dtype: Literal["uint8", "int8", "float32"]
    layout: Literal["NHWC", "NCHW", "NC"]
    quantization: Quantization | None = None

    def __post_init__(self) -> None:
        if self.dtype == "float32" and self.quantization is not None:
            raise ValueError(f"{self.name} is float32, which takes no quantization")
        if self.dtype == "int8" and self.quantization is None:
            raise ValueError(f"{self.name} is int8, which needs a quantization")
        low = -128 if self.dtype == "int8" else 0
        if self.quantization is not None and not low <= self.quantization.zero_point <= low + 255:
            raise ValueError(f"{self.name} has zero point {self.quantization.zero_point}, {self.dtype} holds {low} to {low + 255}")


class Preprocess(_Struct, frozen=True, kw_only=True):
    """How a camera frame becomes the model's input.

    `mean` and `std` are in pixel units (0 to 255), one number a channel in the order of `color`; None means that the
    network takes raw pixels, because its normalization is part of the graph.
    """

    height: Positive
    width: Positive
    color: Literal["RGB", "BGR"] = "RGB"
    resize: Literal["stretch", "crop"] = "stretch"
    interpolation: Literal["area", "linear", "nearest"] = "linear"
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std must be given together")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError(f"std must be above 0, got {self.std}")


class Speed(_Struct, frozen=True, kw_only=True):
    """How long a file's `invoke` took where it was exported, interleaved with the fp32 file of its format."""

    p50_ms: Annotated[float, msgspec.Meta(gt=0)]
    ratio_to_fp32: Annotated[float, msgspec.Meta(gt=0)] | None
    """Median of the paired ratios; None for the fp32 file itself and where there is none."""
    ratio_interval: tuple[float, float] | None
    """95 % interval of that median."""
    threads: Positive
    measured_on: str
    """The processor and its int8 instructions, which the figures hold for."""


class ModelFile(_Struct, frozen=True, kw_only=True):
    """One model file and what was measured of it; accuracy, drop and agreements are fractions of test images.

    `agreement` is top-1 agreement with the fp32 student in torch, `teacher_agreement` with the teacher; `drop` is the accuracy lost
    against the student in torch. Intervals are of 95 %.
    """

    file: Name
    format: Literal["onnx", "tflite"]
    precision: Literal["fp32", "fp16", "int8"]
    bytes: Positive
    sha256: Sha256
    input: Tensor
    output: Tensor
    minimum_runtime: str
    quantization: str | None = None
    """Name of the recipe that made it, such as `static_int8_float_islands`; None for fp32."""
    student: StudentForm = "trained"
    """Which form of the student was quantized."""
    pixel_mean: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0
    """What a float32 input is less than the pixel; a quantized input holds the pixel itself."""
    scores: Scores = "logits"
    """What the output is: probabilities where softmax is part of the graph."""
    partitions: int | None = None
    outside: dict[str, Positive] = {}
    """Operators that run outside of the delegate, with their numbers."""
    accuracy: Fraction | None = None
    accuracy_interval: tuple[Fraction, Fraction] | None = None
    drop: float | None = None
    drop_interval: tuple[float, float] | None = None
    agreement: Fraction | None = None
    teacher_agreement: Fraction | None = None
    speed: Speed | None = None


class Golden(_Struct, frozen=True, kw_only=True):
    """An npz with `frames_bgr` (N, H, W, 3) uint8 and, for each model file, `logits/FILE` (N, classes) float32."""

    file: Name
    sha256: Sha256


class Teacher(_Struct, frozen=True, kw_only=True):
    """Whose knowledge is in the student, and what was decided about its licence."""

    model: str
    sha256: str
    licence: str
    licence_decision: str


class Calibration(_Struct, frozen=True, kw_only=True):
    """Where the quantization ranges come from; `file` is JSON with the range of each tensor of the student's graph."""

    file: Name
    sha256: Sha256
    student: StudentForm
    method: str
    images: Positive
    images_sha256: Sha256


class Provenance(_Struct, frozen=True, kw_only=True):
    """Where the student comes from: enough to make it again."""

    student: str
    student_sha256: str
    teacher: Teacher | None
    dataset: str
    dataset_sha256: str
    dataset_licence: str
    recipe_sha256: str
    created: str
    versions: dict[str, str]
    student_licence: str | None = None
    calibrations: list[Calibration] = []


class Manifest(_Struct, frozen=True, kw_only=True):
    """The whole of manifest.json, format 1."""

    format: int
    name: Name
    task: Literal["classification"]
    labels: Annotated[list[Name], msgspec.Meta(min_length=2)]
    input: Preprocess
    files: Annotated[list[ModelFile], msgspec.Meta(min_length=1)]
    provenance: Provenance
    golden: Golden | None = None

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must differ from each other")
        names = [model.file for model in self.files]
        if len(set(names)) != len(names):
            raise ValueError("two entries of files name the same file")
        for model in self.files:
            self._check_tensors(model)

    def _check_tensors(self, model: ModelFile) -> None:
        if math.prod(model.output.shape) != len(self.labels):
            raise ValueError(f"{model.file} has output shape {model.output.shape} for {len(self.labels)} labels")
        sides = [self.input.height, self.input.width]
        shape = [1, 3, *sides] if model.input.layout == "NCHW" else [1, *sides, 3]
        if model.input.shape != shape:
            raise ValueError(f"{model.file} has input shape {model.input.shape}, frames come as {shape}")
        if self.input.mean is not None and model.input.dtype != "float32":
            raise ValueError(f"{model.file} takes {model.input.dtype}, but mean and std make float32 pixels")


def decode_manifest(data: bytes, *, where: str = MANIFEST_NAME) -> Manifest:
    """Decode and validate the bytes of a manifest; `where` names it in errors."""
    try:
        raw = msgspec.json.decode(data)
    except (ValueError, RecursionError) as error:  # ValueError: DecodeError, or an integer of thousands of digits
        raise BundleError(f"{where} is not JSON ({error}); export the bundle again") from error
    found = raw.get("format") if isinstance(raw, dict) else None
    if found != FORMAT or isinstance(found, bool):
        raise BundleError(
            f"{where} has format {found!r}, this version reads format {FORMAT}; update edgedistill or export the bundle again"
        )
    try:
        return to_struct(raw, Manifest)
    except ValueError as error:
        raise BundleError(f"{where} is broken: {error}; export the bundle again") from error
