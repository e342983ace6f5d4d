"""The parity ladder: does every file answer like the student in torch, on real images, through the device's own code?

Each rung is one file. Everything is measured by `runtime`, from the camera frame on, so that a wrong layout, channel order
or resize shows as well as a wrong weight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from edgedistill.bundle import Bundle
from edgedistill.errors import ConvertError, ParityError
from edgedistill.metrics import accuracy, agreement, cosine
from edgedistill.recipe import Export
from edgedistill.runtime import predict_logits

FEWEST_IMAGES = 256


class Rung(NamedTuple):
    """One file against the student in torch; accuracies, agreement and difference are fractions of the images."""

    file: str
    precision: str
    images: int
    max_delta: float
    cosine: float
    agreement: float
    accuracy: float
    accuracy_delta: float
    budget: str
    ok: bool


class Reference(NamedTuple):
    """What the files are compared with: frames, their labels and the student's logits in torch."""

    frames_bgr: Sequence[np.ndarray] | np.ndarray
    labels_n: np.ndarray
    logits_nc: np.ndarray


class Ladder(NamedTuple):
    """All rungs, and each file's logits (N, classes) by file name."""

    rungs: tuple[Rung, ...]
    logits: dict[str, np.ndarray]


def climb(bundle: Bundle, reference: Reference, *, settings: Export, progress: Callable[[str], None] = lambda message: None) -> Ladder:
    """Run every file of a bundle on the reference's frames and compare.

    Raises ConvertError when there are too few images to say anything; a file over its budget is no error here, see `check`.
    """
    count = len(reference.frames_bgr)
    if count < FEWEST_IMAGES:
        raise ConvertError(
            f"the parity check needs at least {FEWEST_IMAGES} test images, got {count}; raise data.test_limit or export.parity_images"
        )
    rungs, logits = [], {}
    for model in bundle.manifest.files:
        progress(f"comparing {model.file} with the student on {count} images")
        logits[model.file] = predict_logits(bundle, reference.frames_bgr, file=model.file)
        rungs.append(compare(logits[model.file], reference, file=model.file, precision=model.precision, settings=settings))
    return Ladder(tuple(rungs), logits)


def compare(logits_nc: np.ndarray, reference: Reference, *, file: str, precision: str, settings: Export) -> Rung:
    """Return how the logits of one file compare with the reference, and whether that is within its budget."""
    expected = reference.logits_nc
    same = agreement(logits_nc, expected)
    found_accuracy = accuracy(logits_nc, reference.labels_n)
    delta = found_accuracy - accuracy(expected, reference.labels_n)
    if precision == "fp32":
        budget, within = f"agreement >= {settings.min_agreement:.2%}", same >= settings.min_agreement
    else:
        # Both are multiples of 1/N: the smallest number keeps a drop that is exactly the budget within it.
        budget, within = f"drop <= {settings.max_int8_drop:.2%}", -delta <= settings.max_int8_drop + 1e-9
    return Rung(
        file=file,
        precision=precision,
        images=len(expected),
        max_delta=float(np.abs(logits_nc - expected).max()),
        cosine=cosine(logits_nc.astype(np.float64), expected.astype(np.float64)),
        agreement=same,
        accuracy=found_accuracy,
        accuracy_delta=delta,
        budget=budget,
        ok=bool(within and np.isfinite(logits_nc).all()),
    )


def check(rungs: Sequence[Rung]) -> None:
    """Raise ParityError, with the table, if a file is over its budget."""
    broken = [rung for rung in rungs if not rung.ok]
    if not broken:
        return
    first = broken[0]
    raise ParityError(
        f"{first.file} does not answer like the student: agreement {first.agreement:.2%}, accuracy {first.accuracy:.2%} "
        f"({first.accuracy_delta:+.2%}), allowed is {first.budget}. {_advice(first)}",
        table(rungs),
    )


def table(rungs: Sequence[Rung]) -> str:
    """Return the ladder as text, one line a file, from the student downwards."""
    header = ("file", "max |delta|", "cosine", "agreement", "accuracy", "difference", "budget", "")
    lines = [header] + [
        (
            rung.file,
            f"{rung.max_delta:.3g}",
            f"{rung.cosine:.5f}",
            f"{rung.agreement:.2%}",
            f"{rung.accuracy:.2%}",
            f"{rung.accuracy_delta:+.2%}",
            rung.budget,
            "ok" if rung.ok else "BROKEN",
        )
        for rung in rungs
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def _advice(rung: Rung) -> str:
    if rung.precision == "fp32":
        return "The conversion itself is wrong: leave this format out of export.formats, and report the network that shows it"
    return "Calibrate on more images (export.calibration), allow more (export.max_int8_drop), or export without int8"
