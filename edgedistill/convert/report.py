"""What an export found, as text: one row a file, all that was tried, the seconds by step; for the terminal and for a bundle's report.md."""

from __future__ import annotations

from collections.abc import Sequence

from edgedistill.bundle import ModelFile
from edgedistill.convert.job import Attempt, Exported

#: The name of the report in a bundle.
NAME = "report.md"
HEADERS = ("file", "size", "parts", "same answers", "accuracy (95 %)", "against torch (95 %)", "as the teacher", "p50 ms", "to fp32")
TRIED = ("format", "way", "against torch", "parts", "to fp32", "verdict")


def rows(files: Sequence[ModelFile]) -> list[list[str]]:
    """Return one row of texts a file, under `HEADERS`."""
    return [_row(model) for model in files]


def _row(model: ModelFile) -> list[str]:
    speed = model.speed
    ratio = speed.ratio_to_fp32 if speed is not None else None
    return [
        model.file,
        f"{model.bytes / 1000:,.0f} kB",
        "–" if model.partitions is None else str(model.partitions) + ("" if not model.outside else f" + {sum(model.outside.values())}"),
        _percent(model.agreement),
        f"{_percent(model.accuracy)} ({_interval(model.accuracy_interval)})",
        "–" if model.drop is None else f"{0.0 - 100 * model.drop:+.2f} ({_drops(model.drop_interval)})",
        _percent(model.teacher_agreement),
        "–" if speed is None else f"{speed.p50_ms:.3g}",
        "–" if ratio is None else f"{ratio:.2f}",
    ]


def tried(attempts: Sequence[Attempt]) -> list[list[str]]:
    """Return one row of texts an attempt: format, way, difference in points, parts, ratio, verdict."""
    return [_tried(attempt) for attempt in attempts]


def _tried(attempt: Attempt) -> list[str]:
    way = attempt.quantization + ("" if attempt.student == "trained" else f", {attempt.student.replace('_', '-')}")
    way += f", float: {', '.join(attempt.islands)}" if attempt.islands else ""
    rung, speed = attempt.rung, attempt.audit.speed if attempt.audit is not None else None
    return [
        attempt.format,
        way,
        "–" if rung is None else f"{0.0 - 100 * rung.drop:+.2f}",
        "–" if attempt.audit is None or attempt.audit.partitions is None else str(attempt.audit.partitions),
        "–" if speed is None or speed.ratio_to_fp32 is None else f"{speed.ratio_to_fp32:.2f}",
        attempt.verdict,
    ]


def text(exported: Exported) -> str:
    """Return an export's report in Markdown."""
    manifest = exported.bundle.manifest
    parts = [f"# {manifest.name}: how it was converted", table(HEADERS, rows(manifest.files))]
    speeds = [model.speed for model in manifest.files if model.speed is not None]
    if speeds:
        parts.append(
            f"Accuracy on {exported.rungs[0].images:,} held-out images through the device's own code; differences in points. p50 of "
            f"`invoke` on {speeds[0].measured_on}, {speeds[0].threads} thread, interleaved with the fp32 file of the format."
        )
    if exported.attempts:
        parts += ["## What was tried", table(TRIED, tried(exported.attempts))]
    if exported.notes:
        parts += ["## What to know", "\n".join(f"- {note}" for note in exported.notes)]
    seconds = [[step, f"{value:.1f}"] for step, value in exported.seconds.items()]
    parts += ["## Seconds by step", table(("step", "s"), seconds)]
    return "\n\n".join(parts) + "\n"


def table(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    head = [f"| {' | '.join(headers)} |", f"| {' | '.join('---' for _ in headers)} |"]
    return "\n".join(head + [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines])


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}".replace("%", " %")


def _interval(value: tuple[float, float] | None) -> str:
    return "–" if value is None else f"{100 * value[0]:.1f} to {100 * value[1]:.1f}"


def _drops(value: tuple[float, float] | None) -> str:
    return "–" if value is None else f"{0.0 - 100 * value[1]:+.2f} to {0.0 - 100 * value[0]:+.2f}"
