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

FORMAT = 1
MANIFEST_NAME = "manifest.json"

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Name = Annotated[str, msgspec.Meta(min_length=1)]


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


class ModelFile(_Struct, frozen=True, kw_only=True):
    """One model file and what was measured of it; accuracy and agreements are fractions of test images.

    `agreement` is top-1 agreement with the fp32 student in torch, `teacher_agreement` with the teacher.
    """

    file: Name
    format: Literal["onnx", "tflite"]
    precision: Literal["fp32", "int8"]
    bytes: Positive
    sha256: Sha256
    input: Tensor
    output: Tensor
    minimum_runtime: str
    partitions: int | None = None
    accuracy: Fraction | None = None
    agreement: Fraction | None = None
    teacher_agreement: Fraction | None = None


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
            if math.prod(model.output.shape) != len(self.labels):
                raise ValueError(f"{model.file} has output shape {model.output.shape} for {len(self.labels)} labels")


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
    if not path.resolve().is_relative_to(folder.resolve()):
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
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BundleError(f"{where} is not JSON ({error}); export the bundle again") from error
    found = raw.get("format") if isinstance(raw, dict) else None
    if found != FORMAT or isinstance(found, bool):
        raise BundleError(
            f"{where} has format {found!r}, this version reads format {FORMAT}; update edgedistill or export the bundle again"
        )
    try:
        return msgspec.convert(raw, Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(f"{where} is broken: {error}; export the bundle again") from error


def load(path: str | os.PathLike[str], *, verify: bool = True) -> Bundle:
    """Load a bundle's manifest and check every file it names (existence, and with `verify` size and SHA-256)."""
    folder = Path(path)
    manifest_path = folder / MANIFEST_NAME
    if not manifest_path.is_file():
        raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST_NAME}; make one with: edgedistill export RUN")
    manifest = decode_manifest(manifest_path.read_bytes(), where=str(manifest_path))
    entries = [(model.file, model.sha256) for model in manifest.files]
    if manifest.golden is not None:
        entries.append((manifest.golden.file, manifest.golden.sha256))
    for name, sha256 in entries:
        _check_file(folder, name, sha256, verify=verify)
    return Bundle(folder, manifest)


def _check_file(folder: Path, name: str, sha256: str, *, verify: bool) -> None:
    file = inside(folder, name)
    if not file.is_file():
        raise BundleError(f"{folder} lacks {name}, which its manifest names; copy the whole folder, or export it again")
    if verify and (found := sha256_of(file)) != sha256:
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
