"""The ranges as a file of the bundle: what the int8 files were made with, for whoever wants to make them again."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import msgspec
import numpy as np

from edgedistill.bundle import Calibration, StudentForm, write_atomically
from edgedistill.convert.calibration.observe import images_sha256
from edgedistill.convert.calibration.span import Range, Ranges
from edgedistill.errors import ConvertError

FORMAT = 1


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: int
    student: StudentForm
    method: str
    images: int
    images_sha256: str
    ranges: dict[str, tuple[float, float]]


def write(ranges: Ranges, path: Path, *, student: StudentForm, method: str, pixels_nhwc: np.ndarray) -> Calibration:
    """Write the ranges and return the manifest's entry of the file; the same ranges and images give the same bytes.

    Args:
        student: the form of the student whose graph has these nodes.
        method: how the ranges were chosen.
        pixels_nhwc: (N, H, W, 3) uint8 RGB, the calibration images.
    """
    content = _File(
        format=FORMAT,
        student=student,
        method=method,
        images=len(pixels_nhwc),
        images_sha256=images_sha256(pixels_nhwc),
        ranges={name: (float(low), float(high)) for name, (low, high) in ranges.items()},
    )
    data = msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n"
    write_atomically(path, data)
    return Calibration(
        file=path.name,
        sha256=hashlib.sha256(data).hexdigest(),
        student=student,
        method=method,
        images=content.images,
        images_sha256=content.images_sha256,
    )


def read(path: Path) -> dict[str, Range]:
    """Return the ranges of a file that `write` wrote; raises ConvertError for any other."""
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_File)
    except (OSError, ValueError, RecursionError) as error:
        raise ConvertError(f"{path} has no calibration ranges ({error}); export the bundle again") from error
    if content.format != FORMAT:
        raise ConvertError(f"{path} has format {content.format}, this version reads format {FORMAT}; export the bundle again")
    for name, (low, high) in content.ranges.items():
        if not (math.isfinite(low) and math.isfinite(high) and low <= 0 <= high and low < high):
            raise ConvertError(f"{path}: the range of {name} is {low} to {high}, expected one with 0 in it; export the bundle again")
    return {name: Range(low, high) for name, (low, high) in content.ranges.items()}
