"""What a run's `results.json` says: the verdict, the rows of the main table, and figures as text with their units.

A figure that was not measured is None here and a dash in every table, never a zero. Pictures are `figures`' business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from rich.table import Table

from edgedistill.metrics import accuracy_interval

DASH = "\N{EN DASH}"
Z_95 = 1.959964
NETWORKS = {"teacher": "Teacher", "plain": "Plain student", "distilled": "Distilled student"}
FORMAT_NAMES = {"onnx": "ONNX", "tflite": "TFLite"}
WORDS = {"better": "Distilling helped", "worse": "Distilling did harm", "no difference": "No difference shown"}


class Row(NamedTuple):
    """One line of the main table; latencies in milliseconds, memory in MB (10^6 bytes), None where nothing was measured."""

    kind: str
    """`teacher`, `plain`, `distilled`, or FORMAT-PRECISION of an exported file."""
    name: str
    accuracy: float | None
    interval: tuple[float, float] | None
    agreement: float | None
    parameters: int | None
    macs: int | None
    bytes: int | None
    p50: float | None
    p90: float | None
    p99: float | None
    peak_rss_mb: float | None


class Verdict(NamedTuple):
    """The distilled student against the plain one; differences of accuracy as fractions, with the 95 % interval."""

    word: Literal["better", "no difference", "worse"]
    difference: float
    low: float
    high: float
    headline: str
    sentence: str
    method: str


def main_rows(results: Mapping[str, Any]) -> list[Row]:
    """Return the rows of the main table: the three networks, then the exported files in their order."""
    images = results.get("test_images")
    rows = [_row(kind, name, results[kind], images) for kind, name in NETWORKS.items() if results.get(kind)]
    for entry in results.get("files", []):
        name = f"{FORMAT_NAMES.get(entry['format'], entry['format'])} {entry['precision']}"
        rows.append(_row(f"{entry['format']}-{entry['precision']}", name, entry, images))
    return rows


def _row(kind: str, name: str, entry: Mapping[str, Any], images: int | None) -> Row:
    latency = entry.get("latency_ms") or {}
    accuracy = entry.get("accuracy")
    interval = accuracy_interval(accuracy, images) if accuracy is not None and images else None
    same_key = {key: entry.get(key) for key in ("agreement", "parameters", "macs", "bytes", "peak_rss_mb")}
    return Row(
        kind=kind, name=name, accuracy=accuracy, interval=interval, **{key: latency.get(key) for key in ("p50", "p90", "p99")}, **same_key
    )


def verdict(results: Mapping[str, Any]) -> Verdict:
    """Compare the two students; `no difference` is said whenever the 95 % interval of the difference includes zero."""
    plain, distilled, images = results["plain"]["accuracy"], results["distilled"]["accuracy"], results["test_images"]
    paired = results.get("paired")
    if paired:
        low, high = paired_interval(paired["only_distilled"], paired["only_plain"], images)
        method = "paired, because both students answered the same images; adjusted Wald interval, Agresti and Min 2005"
    else:
        low, high = unpaired_interval((distilled, images), (plain, images))
        method = "the two accuracies taken as independent; hybrid score interval, Newcombe 1998"
    word: Literal["better", "no difference", "worse"] = "better" if low > 0 else "worse" if high < 0 else "no difference"
    sentence = (
        f"On {images:,} held-out test images the distilled student is right on {percent(distilled)}, the same student trained plain on "
        f"{percent(plain)}: {points(distilled - plain)} points, 95 % interval {points(low)} to {points(high)}."
    )
    return Verdict(word, distilled - plain, low, high, WORDS[word], sentence, method)


def paired_interval(only_a: int, only_b: int, images: int) -> tuple[float, float]:
    """Return the 95 % interval of accuracy(a) - accuracy(b) from the images that only one of them got right."""
    total = images + 2
    centre = (only_a - only_b) / total
    deviation = math.sqrt(only_a + only_b + 1 - (only_a - only_b) ** 2 / total) / total
    return centre - Z_95 * deviation, centre + Z_95 * deviation


def unpaired_interval(a: tuple[float, int], b: tuple[float, int]) -> tuple[float, float]:
    """Return the 95 % interval of accuracy(a) - accuracy(b), each given with its number of images."""
    (a_low, a_high), (b_low, b_high) = accuracy_interval(*a), accuracy_interval(*b)
    difference = a[0] - b[0]
    return difference - math.hypot(a[0] - a_low, b_high - b[0]), difference + math.hypot(a_high - a[0], b[0] - b_low)


def seeds_sentence(results: Mapping[str, Any]) -> str | None:
    """Return what repeating with other seeds showed, from `results["seeds"]`; None if it was not done."""
    differences = [run["distilled"] - run["plain"] for run in results.get("seeds") or []]
    if len(differences) < 2:
        return None
    mean = sum(differences) / len(differences)
    spread = math.sqrt(sum((value - mean) ** 2 for value in differences) / (len(differences) - 1))
    return (
        f"Over {len(differences)} paired seeds the mean difference is {points(mean)} points, standard deviation {spread * 100:.1f}, "
        f"from {points(min(differences))} to {points(max(differences))}."
    )


def terminal_table(results: Mapping[str, Any]) -> Table:
    """Return the main table for a terminal; print it with `rich.console.Console().print`."""
    found = verdict(results)
    interval = f"{points(found.difference)} points, 95 % interval {points(found.low)} to {points(found.high)}"
    table = Table(caption=f"{found.headline}: {interval}", caption_justify="left", caption_style="bold")
    table.add_column("")
    for heading in ("accuracy", "size", "p50 ms", "p90 ms", "p99 ms", "peak MB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in main_rows(results):
        cells = (percent(row.accuracy), size(row.bytes), *map(milliseconds, (row.p50, row.p90, row.p99)), megabytes(row.peak_rss_mb))
        table.add_row(row.name, *cells, end_section=row.kind == "distilled")
    return table


def percent(fraction: float | None, *, digits: int = 1) -> str:
    """Return 0.8835 as '88.4 %' (half a digit rounds up, as one expects), or a dash."""
    return DASH if fraction is None else f"{_half_up(fraction * 100, digits):.{digits}f} %"


def points(fraction: float | None) -> str:
    """Return a difference of accuracies in percentage points with its sign, or a dash."""
    if fraction is None:
        return DASH
    value = _half_up(fraction * 100, 1)
    return f"{value:+.1f}".replace("-", "\N{MINUS SIGN}") if value else "0.0"


def _half_up(value: float, digits: int) -> float:
    scaled = abs(value) * 10**digits
    return math.copysign(math.floor(scaled + 0.5 + 1e-9) / 10**digits, value)


def milliseconds(value: float | None) -> str:
    """Return a latency with three significant digits, without its unit, or a dash."""
    if value is None:
        return DASH
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def megabytes(value: float | None) -> str:
    """Return megabytes without their unit, or a dash."""
    return DASH if value is None else f"{value:.0f}"


def size(value: int | None) -> str:
    """Return a number of bytes as '1.23 MB' or '812 kB' (powers of ten), or a dash."""
    if value is None:
        return DASH
    return f"{value / 1e6:.2f} MB" if value >= 1e6 else f"{value / 1e3:.0f} kB" if value >= 1e3 else f"{value} B"


def millions(value: int | None) -> str:
    """Return a count in millions with about three digits, without the unit, or a dash."""
    if value is None:
        return DASH
    count = value / 1e6
    return f"{count:.0f}" if count >= 100 else f"{count:.1f}" if count >= 10 else f"{count:.2f}"
