"""The files that teachers are read from: whether they are there, their checksums, and what a bundle says of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgedistill.bundle import MANIFEST_NAME, Manifest, ModelFile, decode_manifest, sha256_of
from edgedistill.errors import BundleError, ModelError
from edgedistill.recipe import Teacher as Spec
from edgedistill.recipe.files import FILE_TEACHERS


def sha256_of_files(spec: Spec) -> str:
    """Return the checksum of a teacher's weights, or of the file or folder that it is, "" without one."""
    kind, _, argument = spec.model.partition(":")
    path = argument if kind in FILE_TEACHERS else None if spec.weights == "pretrained" else spec.weights
    return sha256_of_path(Path(path)) if path else ""


def sha256_of_path(path: Path) -> str:
    """Return the checksum of a file, of a folder that of its files with their names, "" for none."""
    if path.is_file():
        return sha256_of(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    lines = [f"{sha256_of(file)} {file.relative_to(path).as_posix()}" for file in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else ""


def existing(path: Path, spec: Spec) -> Path:
    """Return the path itself; ModelError when there is nothing."""
    if not path.exists():
        raise ModelError(f"the teacher {spec.model} does not exist; give the path of a file, relative to the recipe")
    return path


def manifest_of(path: Path) -> tuple[Manifest, ModelFile] | None:
    """Return what a bundle's manifest beside a model file says of it, None for a file of no bundle; ModelError for a changed file."""
    try:
        manifest = decode_manifest((path.parent / MANIFEST_NAME).read_bytes())
    except (OSError, BundleError):
        return None
    entry = next((entry for entry in manifest.files if entry.file == path.name), None)
    if entry is not None and sha256_of(path) != entry.sha256:
        raise ModelError(
            f"{path} is not the file that its bundle's manifest describes; copy it again, or move it out of the bundle's folder"
        )
    return (manifest, entry) if entry is not None else None
