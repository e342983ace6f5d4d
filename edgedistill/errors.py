"""The exceptions that edgedistill raises on purpose; everything else is a bug.

    EdgeDistillError          exit code 1
    ├── RecipeError           a recipe or an override that cannot be used
    ├── DataError             images, labels or results that are missing, broken or do not fit
    ├── ModelError            a network that is unknown, or weights that do not fit it
    ├── TrainingError         a training that ran out of memory or disk, or lost one of its processes
    ├── ConvertError          a conversion that failed
    ├── ParityError           an exported file that does not answer like the student
    ├── AuditError            an int8 file that is slower than fp32, or runs in several parts, where that is not allowed
    ├── BundleError           a bundle that is broken, incomplete or of another format
    ├── EngineError           no interpreter for a file, or one that refuses it
    ├── MissingExtraError     an optional dependency that is not installed
    ├── OutputError           a file or a window that cannot be written to
    └── SourceError           a camera, video or folder that cannot be opened or read (exit code 4)

A message says what failed with its value, what was expected, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EdgeDistillError(Exception):
    """Base of all errors that a user can put right; `exit_code` is what the commands return.

    `told_elsewhere` is true where the person is told of it otherwise: by another process of the same command, or in the log already.
    """

    exit_code = 1

    def __init__(self, message: str, *, told_elsewhere: bool = False) -> None:
        super().__init__(message)
        self.told_elsewhere = told_elsewhere


class RecipeError(EdgeDistillError):
    """A recipe or an override that cannot be used."""


class DataError(EdgeDistillError):
    """Images, labels or results that are missing, broken or do not fit."""


class ModelError(EdgeDistillError):
    """A network that is unknown, or weights that do not fit it."""


class TrainingError(EdgeDistillError):
    """A training that ran out of memory or disk, or lost one of its processes."""


class ConvertError(EdgeDistillError):
    """A conversion that failed."""


class ParityError(EdgeDistillError):
    """An exported file that does not answer like the student; `table` shows where it broke."""

    def __init__(self, message: str, table: str = "") -> None:
        super().__init__(message)
        self.table = table


class AuditError(EdgeDistillError):
    """An int8 file that is slower than fp32, or runs in several parts, where `strict` does not allow it."""


class BundleError(EdgeDistillError):
    """A bundle that is broken, incomplete or of another format."""


class EngineError(EdgeDistillError):
    """No interpreter for a file, or one that refuses it."""


class MissingExtraError(EdgeDistillError):
    """An optional dependency that is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; install it with: pip install 'edgedistill[{extra}]'")


class OutputError(EdgeDistillError):
    """A file or a window that cannot be written to."""


class SourceError(EdgeDistillError):
    """A camera, video or folder that cannot be opened or read."""

    exit_code = 4


def close_matches(word: str, known: Iterable[str]) -> str:
    """Return ' Did you mean …?' for the nearest known words, or an empty string."""
    matches = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(match) for match in matches)}?" if matches else ""
