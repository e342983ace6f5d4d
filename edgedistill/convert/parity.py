"""The parity ladder: does every file answer like the student in torch, on real images, through the device's own code?

Each rung is one file. Its logits come from `runtime`, from the camera frame on, so that a wrong layout, channel order
or resize shows as well as a wrong weight. Where in the network a file breaks is told by `worst_layers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgedistill.bundle import ModelFile
from edgedistill.convert.layer_noise import LayerError, worst_layers
from edgedistill.errors import ParityError
from edgedistill.metrics import accuracy, accuracy_interval, agreement, cosine, drop_interval
from edgedistill.postprocess import log_probabilities, softmax
from edgedistill.recipe import Export

__all__ = ["LayerError", "Reference", "Rung", "check", "compare", "table", "worst_layers"]

#: Below this, no difference of half a point can be seen.
FEWEST_IMAGES = 256


class Rung(NamedTuple):
    """One file against the student in torch; accuracies, agreement and drop are fractions of the images, intervals of 95 %.

    `drop` is the accuracy lost against the student, `accuracy_delta` the same with the opposite sign. `worst` are the layers with most
    noise, where that was looked for.
    """

    file: str
    precision: str
    images: int
    max_delta: float
    cosine: float
    agreement: float
    accuracy: float
    accuracy_interval: tuple[float, float]
    accuracy_delta: float
    drop: float
    drop_interval: tuple[float, float]
    budget: str
    ok: bool
    worst: tuple[LayerError, ...] = ()


class Reference(NamedTuple):
    """What the files are compared with: frames, their labels and the student's logits in torch."""

    frames_bgr: Sequence[np.ndarray] | np.ndarray
    labels_n: np.ndarray
    logits_nc: np.ndarray


def compare(logits_nc: np.ndarray, reference: Reference, *, model: ModelFile, settings: Export) -> Rung:
    """Return how the logits of one file compare with the reference, and whether that is within its budget.

    Args:
        logits_nc: what the runtime gives of the file; where it gives probabilities, their logarithms.
    """
    expected, labels = reference.logits_nc, reference.labels_n
    if model.scores == "probabilities":
        expected = log_probabilities(softmax(expected))
    same = agreement(logits_nc, expected)
    found_accuracy = accuracy(logits_nc, labels)
    drop = accuracy(expected, labels) - found_accuracy
    if model.precision == "fp32":
        budget, within = f"agreement >= {settings.min_agreement:.2%}", same >= settings.min_agreement
    else:
        # Both are multiples of 1/N: the smallest number keeps a drop that is exactly the budget within it.
        budget, within = f"drop <= {settings.max_int8_drop:.2%}", drop <= settings.max_int8_drop + 1e-9
    return Rung(
        file=model.file,
        precision=model.precision,
        images=len(expected),
        max_delta=float(np.abs(logits_nc - expected).max()),
        cosine=cosine(logits_nc.astype(np.float64), expected.astype(np.float64)),
        agreement=same,
        accuracy=found_accuracy,
        accuracy_interval=accuracy_interval(found_accuracy, len(labels)),
        accuracy_delta=-drop,
        drop=drop,
        drop_interval=drop_interval(expected.argmax(axis=1) == labels, logits_nc.argmax(axis=1) == labels),
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
    """Return the ladder as text, one line a file, from the student downwards, and the worst layers of those that have been looked into."""
    header = ("file", "max |delta|", "cosine", "agreement", "accuracy", "95 %", "drop", "95 %", "budget", "")
    lines = [header, *map(_line, rungs)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    for rung in rungs:
        if rung.worst:
            text += [f"most noise in {rung.file}:", *(f"  {error}" for error in rung.worst)]
    return "\n".join(text)


def _line(rung: Rung) -> tuple[str, ...]:
    low, high = rung.accuracy_interval
    least, most = rung.drop_interval
    return (
        rung.file,
        f"{rung.max_delta:.3g}",
        f"{rung.cosine:.5f}",
        f"{rung.agreement:.2%}",
        f"{rung.accuracy:.2%}",
        f"{low:.2%} to {high:.2%}",
        f"{rung.drop:.2%}",
        f"{least:+.2%} to {most:+.2%}",
        rung.budget,
        "ok" if rung.ok else "BROKEN",
    )


def _advice(rung: Rung) -> str:
    if rung.precision == "fp32":
        return "The conversion itself is wrong: leave this format out of export.formats, and report the network that shows it"
    return "Calibrate on more images (export.calibration), allow more (export.max_int8_drop), or export without int8"
