"""Checks that a model file's tensors are what the bundle's manifest says, before a frame goes through them; and copying one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgedistill.bundle import Tensor
from edgedistill.errors import EngineError


def check_tensor(path: Path, tensor: Tensor, *, shape: Sequence[object], dtype: str) -> None:
    """Raise if the file's tensor differs from the manifest's in shape or dtype."""
    found = f"{dtype} {list(shape)}"
    expected = f"{tensor.dtype} {tensor.shape}"
    if found != expected:
        raise EngineError(f"{path}: tensor {tensor.name} is {found}, the manifest says {expected}; export the bundle again")


def check_quantization(path: Path, tensor: Tensor, *, scale: float, zero_point: int) -> None:
    """Raise if the file's quantization of a tensor differs from the manifest's; a scale of 0 stands for none."""
    expected = (tensor.quantization.scale, tensor.quantization.zero_point) if tensor.quantization is not None else (0.0, 0)
    if not math.isclose(scale, expected[0], rel_tol=1e-5) or zero_point != expected[1]:
        raise EngineError(
            f"{path}: {tensor.name} has scale {scale}, zero point {zero_point}, the manifest says {expected[0]} and {expected[1]}; "
            "export the bundle again"
        )


def check_one(path: Path, role: str, count: int) -> None:
    """Raise if a file has not exactly one input or output."""
    if count != 1:
        raise EngineError(f"{path} has {count} {role}s, a classifier has one; export the bundle again")


def copy_bytes(tensor: np.ndarray, into: np.ndarray) -> None:
    """Copy a tensor's bytes to another one of the same size, both without gaps.

    Python's lock is held meanwhile: numpy would let it go, a thread that captures would take it, and the loop would wait for that.
    """
    into.data.cast("B")[:] = tensor.data.cast("B")
