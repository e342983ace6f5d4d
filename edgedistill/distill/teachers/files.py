"""The files that teachers are read from: their checksums."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgedistill.bundle import sha256_of
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
