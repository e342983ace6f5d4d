"""A network's operators as JSON, as a table and as a picture: the ten that matter most."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgedistill.errors import OutputError
from edgedistill.runtime.disk import write_whole
from edgedistill.runtime.operators.found import METHODS, Found, Operator, top

SCHEMA = 1
WIDTH, MARGIN, ROW, HEAD = 1000, 24, 44, 96
BAR_LEFT, BAR_RIGHT = 480, 800
INK, PALE, BAR, DOUBT = (40, 40, 40), (120, 120, 120), (176, 114, 40), (40, 60, 190)
#: By this part of the whole, operators that were measured one by one may miss it.
MOST_AMISS = 0.3
NOT_ADDING_UP = "these do not add up: the machine was busy; measure again, or with --threads 1"
FONT = cv2.FONT_HERSHEY_SIMPLEX


def as_json(found: Found) -> dict[str, Any]:
    """Return all operators as JSON values, in the order they run in."""
    operators = [operator._asdict() for operator in found.operators]
    return {"schema": SCHEMA} | found._asdict() | {"what_it_is": METHODS[found.method], "operators": operators}


def as_text(found: Found, *, count: int = 10) -> str:
    """Return the costliest operators as a table to read, with what the figures are."""
    first = top(found, count)
    header = ("share", "ms", "+-", "MACs", "kB", "type", "name")
    lines = [header, *map(_cells, first)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = [_aligned(line, widths) for line in lines]
    share = sum(operator.share for operator in first)
    whole = f"; {_sum_and_whole(found)}" if found.total_ms is not None else ""
    text.append(f"{len(first)} of {len(found.operators)} operators of {found.file}, {share:.0%} of the whole{whole}")
    text.append(f"by {found.engine}, threads: {found.threads}; {METHODS[found.method]}")
    return "\n".join(text)


def _sum_and_whole(found: Found) -> str:
    """Return what all operators together take beside one run of the whole, as a measure of what the measuring itself costs."""
    doubt = f" ({NOT_ADDING_UP})" if not adds_up(found) else ""
    return f"one invoke takes {found.total_ms:.3f} ms, all operators measured one by one {_together_ms(found):.3f} ms{doubt}"


def adds_up(found: Found) -> bool:
    """Return whether what cutting the network told of each operator is near what the whole takes; a busy machine spoils that."""
    if found.method != "prefixes" or found.total_ms is None:
        return True
    return abs(_together_ms(found) - found.total_ms) <= MOST_AMISS * found.total_ms


def _together_ms(found: Found) -> float:
    return sum(operator.ms for operator in found.operators if operator.ms is not None)


def _cells(operator: Operator) -> tuple[str, ...]:
    figures = (f"{operator.share:.1%}", _milliseconds(operator.ms), _milliseconds(operator.noise_ms))
    macs = "-" if operator.macs is None else f"{operator.macs / 1e6:.2f} M"
    size = "-" if operator.bytes is None else f"{operator.bytes / 1e3:.0f}"
    return (*figures, macs, size, operator.type, short_name(operator.name))


def short_name(name: str) -> str:
    """Return where in the network an operator is, without the classes that PyTorch's exporter writes before each step.

    Of several operators that were made into one, the last is told.
    """
    last = [part for part in name.split(";") if "." in part or "/" in part][-1:] or [name]
    steps = [re.sub(r"^(?:\w+\.)+_*[A-Z][A-Za-z0-9]*_?", "", step) for step in last[0].split("/")]
    return "/".join(filter(None, steps)) or last[0]


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _aligned(line: tuple[str, ...], widths: list[int]) -> str:
    pairs = list(zip(line, widths, strict=True))
    return "  ".join([cell.rjust(width) for cell, width in pairs[:5]] + [cell.ljust(width) for cell, width in pairs[5:]]).rstrip()


def draw(found: Found, *, count: int = 10) -> np.ndarray:
    """Return a picture of the costliest operators, one bar each, (H, W, 3) uint8 BGR."""
    first = top(found, count)
    image_bgr = np.full((HEAD + ROW * max(1, len(first)) + MARGIN, WIDTH, 3), 255, np.uint8)
    whole = f": {found.total_ms:.2f} ms" if found.total_ms is not None else ""
    _write(image_bgr, f"{found.file}, {found.engine}{whole}", at=(MARGIN, 40), scale=0.7)
    measure = "time, by cutting the network after each" if found.method == "prefixes" else "time, by the interpreter's profiler"
    what = "multiplications, not time" if found.method == "counted" else measure
    subtitle = f"the {len(first)} costliest of {len(found.operators)} operators; share of {what}"
    _write(image_bgr, subtitle, at=(MARGIN, 70), scale=0.5, ink=PALE)
    if not adds_up(found):
        _write(image_bgr, NOT_ADDING_UP, at=(MARGIN, 88), scale=0.45, ink=DOUBT)
    largest = max((operator.share for operator in first), default=1.0) or 1.0
    for number, operator in enumerate(first):
        _draw_row(image_bgr, operator, y=HEAD + ROW * number, largest=largest)
    return image_bgr


def _draw_row(image_bgr: np.ndarray, operator: Operator, *, y: int, largest: float) -> None:
    _write(image_bgr, operator.type, at=(MARGIN, y + 16), scale=0.5)
    _write(image_bgr, short_name(operator.name), at=(MARGIN, y + 34), scale=0.4, ink=PALE)
    right = BAR_LEFT + max(2, round((BAR_RIGHT - BAR_LEFT) * operator.share / largest))
    cv2.rectangle(image_bgr, (BAR_LEFT, y + 8), (right, y + 30), BAR, cv2.FILLED)
    noise = f" +- {operator.noise_ms:.2f}" if operator.noise_ms is not None else ""
    amount = f"{operator.ms:.2f}{noise} ms" if operator.ms is not None else f"{(operator.macs or 0) / 1e6:.1f} M"
    _write(image_bgr, f"{operator.share:.1%}  {amount}", at=(right + 10, y + 24), scale=0.45)


def _write(image_bgr: np.ndarray, text: str, *, at: tuple[int, int], scale: float, ink: tuple[int, int, int] = INK) -> None:
    """Write a line that ends where the bars begin, or at the picture's edge; of a longer one the end is kept, which tells more."""
    plain = text.encode("ascii", "replace").decode()
    space = (BAR_LEFT if at[0] < BAR_LEFT and at[1] > HEAD else WIDTH) - at[0] - 10
    shown = plain
    while len(plain) > 3 and cv2.getTextSize(shown, FONT, scale, 1)[0][0] > space:
        plain = plain[1:]
        shown = f"..{plain}"
    cv2.putText(image_bgr, shown, at, FONT, scale, ink, 1, cv2.LINE_AA)


def write_picture(found: Found, path: Path) -> None:
    """Write the picture to a file, as PNG or whatever its name ends in; raises OutputError."""
    try:
        done, data = cv2.imencode(path.suffix, draw(found))
        if not done:
            raise ValueError(f"OpenCV writes no {path.suffix}")
        write_whole(path, data.tobytes())
    except (cv2.error, OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "there is no such kind of picture"
        raise OutputError(
            f"{path} cannot be written ({reason}): expected a name that ends in .png, in a folder that is there and may be written to"
        ) from error
