"""The report's figures as inline SVG; colours are CSS variables, so that one picture serves light, dark and print.

Each function returns an `<svg>` element with an accessible name. The figures are 480 CSS pixels wide, so that their text
can still be read on a phone. Which colours the variables have is the template's business.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from edgedistill.demo.summary import Row, milliseconds
from edgedistill.latency import STAGES, percentiles

WIDTH_IN = 480 / 72
#: The colour that stands in for a CSS variable while matplotlib draws, and the variable.
INK, MUTED, GRID, SURFACE = "#010203", "#040506", "#070809", "#0a0b0c"
TEACHER, PLAIN, DISTILLED = "#0d0e0f", "#101112", "#131415"
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    SURFACE: "--surface",
    TEACHER: "--teacher",
    PLAIN: "--plain",
    DISTILLED: "--distilled",
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgedistill",
    "font.size": 13,
    "axes.labelsize": 13,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 12,
}
#: Colour, marker, size and whether it is filled, by the kind of a row; sizes differ so that marks in one place stay visible.
MARKS = {
    "teacher": (TEACHER, "*", 15, True),
    "plain": (PLAIN, "o", 10, True),
    "distilled": (DISTILLED, "o", 23, False),
    "onnx-fp32": (DISTILLED, "s", 14, True),
    "onnx-int8": (DISTILLED, "s", 14, False),
    "tflite-fp32": (DISTILLED, "^", 10, True),
    "tflite-int8": (DISTILLED, "^", 10, False),
}
STUDENTS = {"plain": ("trained plain", PLAIN, "--", "o"), "distilled": ("distilled", DISTILLED, "-", "s")}
SMALLEST_MS = 1e-3
NUMBERED_CLASSES = 20


def learning_curves(curves: Mapping[str, Sequence[Mapping[str, Any]]], *, alt: str) -> str:
    """Draw validation accuracy and validation loss of the students over the epochs.

    Args:
        curves: rows of `metrics.jsonl` by `plain` and `distilled`; rows without validation figures are left out.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 6.6), layout="constrained")
        accuracy, loss = figure.subplots(2, 1, sharex=True)
        for student, rows in curves.items():
            name, color, line, marker = STUDENTS[student]
            look = {"color": color, "linestyle": line, "marker": marker, "markersize": 4, "label": name}
            for axes, key, factor in ((accuracy, "val_accuracy", 100), (loss, "val_loss", 1)):
                seen = [(row["epoch"], row[key] * factor) for row in rows if row.get(key) is not None]
                axes.plot(*zip(*seen, strict=True) if seen else ([], []), **look)
        accuracy.set_ylabel("validation accuracy (%)")
        accuracy.legend(loc="lower right")
        loss.set_ylabel("validation loss (nats)")
        loss.set_xlabel("epoch")
        loss.xaxis.get_major_locator().set_params(integer=True)
        return _svg(figure, name="curves", alt=alt)


def accuracy_against_size(rows: Sequence[Row], *, alt: str) -> str:
    """Draw the accuracy of each row against its size on disk."""
    seen = [(row, row.bytes / 1e6) for row in rows if row.bytes is not None]
    return _accuracy_against(seen, label="size on disk (MB, logarithmic)", name="size", alt=alt)


def accuracy_against_latency(rows: Sequence[Row], *, alt: str) -> str:
    """Draw the accuracy of each row against the median latency of one image."""
    seen = [(row, row.p50) for row in rows if row.p50 is not None]
    return _accuracy_against(seen, label="median latency of one image (ms, logarithmic)", name="latency", alt=alt)


def _accuracy_against(seen: Sequence[tuple[Row, float]], *, label: str, name: str, alt: str) -> str:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 5.4), layout="constrained")
        axes = figure.subplots()
        for row, x in seen:
            if row.accuracy is not None:
                _point(axes, row, x)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.12, y=0.12)
        axes.set_xlabel(label)
        axes.set_ylabel("test accuracy (%)")
        figure.legend(loc="outside lower center", ncols=2, markerscale=0.65)
        return _svg(figure, name=name, alt=alt)


def _point(axes: Axes, row: Row, x: float) -> None:
    assert row.accuracy is not None
    color, marker, size, filled = MARKS.get(row.kind, (MUTED, "D", 9, True))
    low, high = row.interval or (row.accuracy, row.accuracy)
    axes.vlines(x, low * 100, high * 100, color=MUTED, linewidth=0.8)
    axes.plot(
        [x],
        [row.accuracy * 100],
        color=color,
        linestyle="none",
        marker=marker,
        markersize=size,
        markerfacecolor=color if filled else "none",
        markeredgecolor=SURFACE if filled else color,
        markeredgewidth=0.8 if filled else 1.8,
        label=row.name,
    )


def confusion(counts_cc: np.ndarray, labels: Sequence[str], *, alt: str) -> str:
    """Draw a confusion matrix, shaded by the fraction of each true class.

    Args:
        counts_cc: (classes, classes) counts; rows are the true classes, columns the predicted ones.
    """
    classes, numbered = len(labels), len(labels) <= NUMBERED_CLASSES
    fractions = counts_cc / np.maximum(1, counts_cc.sum(axis=1, keepdims=True))
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(WIDTH_IN, 6.4), layout="constrained")
        axes = figure.subplots()
        for true, predicted in zip(*np.nonzero(counts_cc), strict=True):
            _cell(axes, (true, predicted), fractions[true, predicted], str(counts_cc[true, predicted]) if numbered else "")
        shown = range(0, classes, math.ceil(classes / NUMBERED_CLASSES))
        axes.set_xticks(shown, [labels[i] for i in shown], rotation=50, ha="right", rotation_mode="anchor")
        axes.set_yticks(shown, [labels[i] for i in shown])
        axes.set(xlim=(-0.5, classes - 0.5), ylim=(classes - 0.5, -0.5), xlabel="predicted class", ylabel="true class")
        return _svg(figure, name="confusion", alt=alt)


def _cell(axes: Axes, place: tuple[int, int], fraction: float, number: str) -> None:
    """Shade one cell, (row, column), and write its number in a colour that can be read on the shade."""
    row, column = place
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=DISTILLED, alpha=0.08 + 0.92 * fraction, linewidth=0))
    axes.text(column, row, number, ha="center", va="center", color=SURFACE if fraction > 0.5 else INK, fontsize=11)


def latency_histogram(stages_ms: Mapping[str, Sequence[float]], *, alt: str) -> str:
    """Draw the distribution of each stage's latency on one logarithmic axis, with p50 and p99.

    Args:
        stages_ms: milliseconds of every frame by stage; stages without a value are left out.
    """
    stages = [stage for stage in (*STAGES, *sorted(set(stages_ms) - set(STAGES))) if len(stages_ms.get(stage, ()))]
    values = {stage: np.maximum(np.asarray(stages_ms[stage], float), SMALLEST_MS) for stage in stages}
    with mpl.rc_context({**STYLE, "axes.spines.left": False}):
        figure = Figure(figsize=(WIDTH_IN, 0.9 + 0.95 * len(stages)), layout="constrained")
        all_axes = figure.subplots(len(stages), 1, sharex=True, squeeze=False)[:, 0]
        low, high = min(v.min() for v in values.values()), max(v.max() for v in values.values())
        bins = np.geomspace(low * 0.8, high * 1.25, 70)
        for axes, stage in zip(all_axes, stages, strict=True):
            _histogram(axes, values[stage], bins, stage)
        all_axes[-1].set_xscale("log")
        all_axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        all_axes[-1].set_xlabel("latency (ms, logarithmic)")
        return _svg(figure, name="histogram", alt=alt)


def _histogram(axes: Axes, values_ms: np.ndarray, bins: np.ndarray, stage: str) -> None:
    found = percentiles(values_ms)
    axes.hist(values_ms, bins=bins.tolist(), color=DISTILLED, alpha=0.75, linewidth=0)
    axes.axvline(found.p50, color=INK, linewidth=1.2)
    axes.axvline(found.p99, color=INK, linewidth=1.2, linestyle=":")
    axes.set_yticks([])
    axes.set_title(f"{stage}: p50 {milliseconds(found.p50)} ms, p99 {milliseconds(found.p99)} ms", loc="left", fontsize=12)


def _svg(figure: Figure, *, name: str, alt: str) -> str:
    """Return the figure as an `<svg>` element for a page that holds several: own ids, an accessible name, no fixed size."""
    stream = io.StringIO()
    FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
    for color, variable in VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    opening, rest = text.split(">", 1)
    view_box = re.search(r'viewBox="[^"]*"', opening)
    assert view_box is not None
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {spaces} {view_box[0]} role="img" aria-label="{escape(alt)}">{rest}'
