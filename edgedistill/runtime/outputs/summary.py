"""A run's summary, to read."""

from __future__ import annotations

from edgedistill.runtime.frames import UNDECODABLE
from edgedistill.runtime.monitor import Summary
from edgedistill.runtime.quality import worst
from edgedistill.runtime.status import OutputStatus, SourceStatus, distinct


def summary_text(summary: Summary) -> str:
    """Return a run's summary, a few lines to read."""
    fps = f", {summary.fps:.1f} a second" if summary.fps is not None else ""
    first = f", first result after {summary.first_result_s:.2f} s" if summary.first_result_s is not None else ""
    skipped = sum(source.dropped.get(UNDECODABLE, 0) for source in summary.sources)
    dropped = sum(count for source in summary.sources for cause, count in source.dropped.items() if cause != UNDECODABLE)
    quality = f", quality {worst(source.quality for source in summary.sources)}" if summary.sources else ""
    lines = [f"{summary.frames} frames{fps}, {dropped} dropped, {skipped} could not be read{quality}{first}"]
    several = len(summary.sources) > 1
    names = distinct([source.name for source in summary.sources])
    lines += [
        source_line(source._replace(name=name))
        for name, source in zip(names, summary.sources, strict=True)
        if several or source.dropped or source.reconnects or source.quality != "excellent"
    ]
    lines += [output_line(output) for output in summary.outputs if output.dropped or output.failed]
    if summary.stages_ms:
        lines.append(f"{'ms':<12}{'p50':>9}{'p90':>9}{'p99':>9}{'max':>9}")
    lines += [f"{stage:<12}" + "".join(f"{value:>9.2f}" for value in found) for stage, found in summary.stages_ms.items()]
    return "\n".join(lines)


def source_line(source: SourceStatus) -> str:
    """Return how a source did, in one line."""
    lost = [f"{count} lost ({cause})" for cause, count in source.dropped.items()]
    troubles = [f"{source.stalls} stalls, {source.reconnects} reconnects"] if source.stalls or source.reconnects else []
    return f"{source.name}: quality {source.quality}, " + ", ".join([f"{source.captured} captured", *lost, *troubles])


def output_line(output: OutputStatus) -> str:
    """Return what was not well with an output, in one line."""
    error = f", last error: {output.error}" if output.error else ""
    return f"{output.name}: {output.written} written, {output.dropped} dropped, {output.failed} failed{error}"
