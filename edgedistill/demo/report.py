"""One HTML page about a run, complete in itself: tables, figures and sample frames, readable without a network.

The page's text and looks are in report.html.j2, its figures in `figures`, what the numbers say in `summary`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import jinja2
import numpy as np
from markupsafe import Markup

from edgedistill.bundle import write_atomically
from edgedistill.demo import figures, summary
from edgedistill.demo.summary import terminal_table
from edgedistill.latency import STAGES, Percentiles, percentiles

__all__ = ["ReportInput", "Sample", "terminal_table", "write_report"]

TEMPLATE = "report.html.j2"
SAMPLE_WIDTH_PX = 320


class Sample(NamedTuple):
    """One frame of the camera loop with its answer; `score` is a probability."""

    frame_bgr: np.ndarray
    predicted: str
    score: float
    true: str


@dataclass(frozen=True, kw_only=True)
class ReportInput:
    """Everything that the page tells; an empty field leaves its section out and says so."""

    results: Mapping[str, Any]
    """The object of results.json. Beyond its documented keys these are used where they are there: `test_images` (int,
    needed), `paired` {"only_distilled", "only_plain"} (test images that only one student got right), `seeds` [{"seed", "plain",
    "distilled"}] (accuracies of repeated runs), and in each network or file `bytes`, `latency_ms` and `peak_rss_mb`."""
    title: str = "edgedistill demo"
    created: str = ""
    """Date and time of the run, as text."""
    dataset: str = ""
    """What was trained and tested on, with its licence; one sentence."""
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Rows of metrics.jsonl by `plain` and `distilled`: {"epoch", "val_accuracy" 0-1, "val_loss" in nats, …}."""
    labels: Sequence[str] = ()
    """Name of each class."""
    confusion: np.ndarray | None = None
    """(classes, classes) counts of test images of the shipped file; rows true, columns predicted."""
    shipped_file: str = ""
    """The file whose confusion matrix, latencies and sample frames are shown."""
    stage_latencies_ms: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Milliseconds of every frame of the camera loop by stage, warm-up left out."""
    samples: Sequence[Sample] = ()
    """About a dozen frames, right and wrong answers as they came."""
    ladder: Sequence[Mapping[str, Any]] = ()
    """Rows of the parity ladder: file, max_delta (logits), cosine, agreement, accuracy, ok, and the loss of accuracy as `drop`
    or, with the other sign, `accuracy_delta` (fractions), its `drop_interval`, `partitions`, and `speed` with `ratio_to_fp32`."""
    tried: Sequence[Mapping[str, Any]] = ()
    """Ways of quantizing that were tried, in order: format, student, quantization, kept, verdict."""
    commands: Sequence[str] = ()
    """The command lines that repeat the run."""


def write_report(report: ReportInput, out: Path) -> None:
    """Write the page to `out` in one step."""
    write_atomically(out, render(report).encode())


def render(report: ReportInput) -> str:
    """Return the page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=summary.percent,
        points=summary.points,
        ms=summary.milliseconds,
        mb=summary.megabytes,
        size=summary.size,
        millions=summary.millions,
    )
    rows = summary.main_rows(report.results)
    return environment.get_template(TEMPLATE).render(
        report=report,
        rows=rows,
        verdict=summary.verdict(report.results),
        seeds=summary.seeds_sentence(report.results),
        figures={name: Markup(svg) for name, svg in _figures(report, rows).items()},
        samples=[(Sample(*sample), data_uri(sample[0])) for sample in report.samples],
        ladder=[_ladder_row(row) for row in report.ladder],
        camera=report.results.get("camera"),
        stages=stage_percentiles(report.stage_latencies_ms),
        environment=flatten(report.results.get("environment", {})),
        dash=summary.DASH,
    )


_RUNG = ("file", "max_delta", "cosine", "agreement", "accuracy", "accuracy_delta", "drop_interval", "partitions", "ok")


def _ladder_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rung with every key that the page shows, None where it was not measured."""
    shown = {key: row.get(key) for key in _RUNG}
    if shown["accuracy_delta"] is None and row.get("drop") is not None:
        shown["accuracy_delta"] = -row["drop"]
    return shown | {"ratio": (row.get("speed") or {}).get("ratio_to_fp32")}


def _figures(report: ReportInput, rows: Sequence[summary.Row]) -> dict[str, str]:
    """Return the figures for which there is something to show."""
    drawn = {}
    if any(report.curves.values()):
        drawn["curves"] = figures.learning_curves(report.curves, alt=_curves_alt(report.curves))
    if any(row.bytes is not None for row in rows):
        drawn["size"] = figures.accuracy_against_size(
            rows, alt=_scatter_alt("size on disk", [(row, summary.size(row.bytes)) for row in rows])
        )
    if any(row.p50 is not None for row in rows):
        told = [(row, f"{summary.milliseconds(row.p50)} ms") for row in rows if row.p50 is not None]
        drawn["latency"] = figures.accuracy_against_latency(rows, alt=_scatter_alt("median latency", told))
    if report.confusion is not None:
        drawn["confusion"] = figures.confusion(report.confusion, report.labels, alt=_confusion_alt(report.confusion, report.labels))
    if any(len(values) for values in report.stage_latencies_ms.values()):
        told_stages = [
            f"{stage} {summary.milliseconds(found.p50)} ms" for stage, found in stage_percentiles(report.stage_latencies_ms).items()
        ]
        drawn["histogram"] = figures.latency_histogram(
            report.stage_latencies_ms, alt=f"Histograms of the latency by stage. Medians: {', '.join(told_stages)}."
        )
    return drawn


def _curves_alt(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    last = [f"{name} {summary.percent(rows[-1].get('val_accuracy'))}" for name, rows in curves.items() if rows]
    return f"Line charts of validation accuracy and loss over the epochs. Accuracy after the last epoch: {', '.join(last)}."


def _scatter_alt(against: str, told: Sequence[tuple[summary.Row, str]]) -> str:
    listed = "; ".join(f"{row.name} {summary.percent(row.accuracy)} at {where}" for row, where in told)
    return f"Scatter chart of test accuracy against {against}: {listed}."


def _confusion_alt(counts_cc: np.ndarray, labels: Sequence[str]) -> str:
    mistakes = counts_cc - np.diag(np.diag(counts_cc))
    true, predicted = (int(index) for index in np.unravel_index(mistakes.argmax(), mistakes.shape))
    right = f"Confusion matrix: {int(np.trace(counts_cc))} of {int(counts_cc.sum())} images on the diagonal"
    if not mistakes.any():
        return f"{right}."
    return f"{right}; the commonest mistake is {labels[true]} taken for {labels[predicted]}, {mistakes[true, predicted]} times."


def stage_percentiles(stages_ms: Mapping[str, Sequence[float]]) -> dict[str, Percentiles]:
    """Return the percentiles of every stage that has a value, in the order of the loop."""
    order = (*STAGES, *sorted(set(stages_ms) - set(STAGES)))
    return {stage: percentiles(stages_ms[stage]) for stage in order if len(stages_ms.get(stage, ()))}


def data_uri(frame_bgr: np.ndarray) -> str:
    """Return a frame as a JPEG data URI, at most `SAMPLE_WIDTH_PX` wide.

    Args:
        frame_bgr: (H, W, 3) uint8.
    """
    height, width = frame_bgr.shape[:2]
    if width > SAMPLE_WIDTH_PX:
        frame_bgr = cv2.resize(frame_bgr, (SAMPLE_WIDTH_PX, round(height * SAMPLE_WIDTH_PX / width)), interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", frame_bgr, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()


def flatten(tree: Mapping[str, Any], *, prefix: str = "") -> dict[str, str]:
    """Return a nested object as one level of `a.b` keys with values as text; None becomes a dash."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, prefix=f"{prefix}{key}."))
        elif isinstance(value, list | tuple):
            flat[prefix + key] = ", ".join(map(str, value)) or summary.DASH
        else:
            flat[prefix + key] = summary.DASH if value is None else str(value)
    return flat
