"""The bundle: one folder with manifest, models and golden pair, the only thing that goes to the device.

`load` reads and checks it, `write_manifest` writes its manifest. How the model files come about is `convert`'s business,
running them is `runtime`'s.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import msgspec

from edgedistill.errors import BundleError, close_matches
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


class Bundle(msgspec.Struct, frozen=True):
    """A loaded and checked bundle: its folder and its manifest."""

    path: Path
    manifest: Manifest

    def model(self, file: str) -> ModelFile:
        """Return the entry of a model file, by file name or by FORMAT-PRECISION such as `tflite-int8`."""
        for entry in self.manifest.files:
            if file in (entry.file, f"{entry.format}-{entry.precision}"):
                return entry
        known = [entry.file for entry in self.manifest.files]
        raise BundleError(f"{self.path} has no model file {file!r}; it has {', '.join(known)}.{close_matches(file, known)}")

    def file_path(self, file: str) -> Path:
        """Return the path of a file that the manifest names."""
        return inside(self.path, file)


def inside(folder: Path, name: str) -> Path:
    """Return folder/name, refusing names that leave the folder, also by a link."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\\" in name or "\0" in name:
        raise BundleError(f"{folder}: the manifest names {name!r}, which leaves the bundle's folder; get the bundle anew from its maker")
    path = folder / relative
    try:
        stays = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself, up to Python 3.12
        raise BundleError(f"{folder}: {name!r} cannot be followed ({error}); get the bundle anew from its maker") from error
    if not stays:
        raise BundleError(f"{folder}: {name!r} is a link that leaves the bundle's folder; get the bundle anew from its maker")
    return path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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


def load(path: str | os.PathLike[str], *, verify: bool = True) -> Bundle:
    """Load a bundle's manifest and check every file it names (existence, and with `verify` size and SHA-256)."""
    folder = Path(path)
    manifest_path = folder / MANIFEST_NAME
    try:
        data = manifest_path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST_NAME}; make one with: edgedistill export RUN") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise BundleError(f"{manifest_path} cannot be read: {error}; give the path of a bundle's folder") from error
    manifest = decode_manifest(data, where=str(manifest_path))
    for model in manifest.files:
        _check_file(folder, model.file, model.sha256, size=model.bytes, verify=verify)
    if manifest.golden is not None:
        _check_file(folder, manifest.golden.file, manifest.golden.sha256, size=None, verify=verify)
    for calibration in manifest.provenance.calibrations:
        _check_file(folder, calibration.file, calibration.sha256, size=None, verify=verify)
    return Bundle(folder, manifest)


def _check_file(folder: Path, name: str, sha256: str, *, size: int | None, verify: bool) -> None:
    file = inside(folder, name)
    try:
        if not file.is_file():
            raise BundleError(f"{folder} lacks {name}, which its manifest names; copy the whole folder, or export it again")
        found_size = file.stat().st_size
        found = sha256_of(file) if verify else sha256
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error}; check its permissions, or copy it again") from error
    if verify and size not in (None, found_size):
        raise BundleError(f"{file} has {found_size} bytes, the manifest says {size}: the file was changed or cut short; copy it again")
    if found != sha256:
        raise BundleError(
            f"{file} has checksum {found[:12]}…, the manifest says {sha256[:12]}…: the file was changed or cut short; copy it again"
        )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write folder/manifest.json in one step: readers see the old file or the new one, never a part."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    write_atomically(folder / MANIFEST_NAME, text + b"\n")


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file under a temporary name beside its place, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
