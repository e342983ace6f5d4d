"""The bundle: one folder with manifest, models and golden pair, the only thing that goes to the device.

`load` reads and checks it, `write_manifest` writes its manifest, whose records are in `manifest`. How the model files come about is
`convert`'s business, running them is `runtime`'s.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path, PurePosixPath

import msgspec

from edgedistill.errors import BundleError, close_matches
from edgedistill.manifest import (
    FORMAT,
    MANIFEST_NAME,
    Calibration,
    Golden,
    Manifest,
    ModelFile,
    Preprocess,
    Provenance,
    Quantization,
    Scores,
    Speed,
    StudentForm,
    Teacher,
    Tensor,
    decode_manifest,
)

__all__ = [
    "FORMAT",
    "MANIFEST_NAME",
    "Bundle",
    "Calibration",
    "Golden",
    "Manifest",
    "ModelFile",
    "Preprocess",
    "Provenance",
    "Quantization",
    "Scores",
    "Speed",
    "StudentForm",
    "Teacher",
    "Tensor",
    "decode_manifest",
    "inside",
    "load",
    "sha256_of",
    "write_atomically",
    "write_manifest",
]


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
