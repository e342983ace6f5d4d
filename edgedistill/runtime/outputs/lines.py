"""Results as lines on a text stream: to read, JSON objects, or a CSV table."""

from __future__ import annotations

import csv
import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TextIO

import msgspec

from edgedistill.latency import STAGES
from edgedistill.runtime.camera import Result
from edgedistill.runtime.frames import Frame
from edgedistill.runtime.results import LineClass, LineSource, ResultLine, StageTimes
from edgedistill.runtime.status import SourceStatus, distinct

CSV_END = "\r\n"
#: How old what a line tells of its source may be.
GLANCE_S = 0.5


class Told(Protocol):
    """What lines tell of a source; every `Source` is one."""

    name: str

    def status(self) -> SourceStatus: ...


class Glance:
    """How each source is doing, looked at `GLANCE_S` apart: a line for each frame does not cost a look for each frame."""

    def __init__(self, sources: Sequence[Told]) -> None:
        self._sources = sources
        self._seen: dict[int, tuple[float, SourceStatus]] = {}

    def __call__(self, place: int) -> SourceStatus:
        now_s = time.monotonic()
        if place not in self._seen or now_s - self._seen[place][0] >= GLANCE_S:
            self._seen[place] = now_s, self._sources[place].status()
        return self._seen[place][1]


def json_line(result: Result, names: Sequence[str] = (), *, status: SourceStatus | None = None, now_s: float | None = None) -> str:
    """Return a result as one line of JSON, which `results.read_results` reads back.

    Args:
        names: of the sources, by their place.
        status: how the result's source is doing.
        now_s: monotonic clock; `age_ms` is how long the frame has been there by then.
    """
    quality, dropped = (status.quality, status.dropped) if status is not None else (None, None)
    line = ResultLine(
        source=LineSource(index=result.source, name=_name(result, names), quality=quality, dropped=dropped),
        frame_id=result.frame_id,
        time_s=result.time_s,
        time_monotonic_s=result.captured_s,
        top_k=tuple([LineClass(class_id=one.class_id, label=one.label, score=one.score) for one in result.top_k]),
        stages_ms=StageTimes(**{stage: round(result.stages_ms[stage], 4) for stage in STAGES}),
        age_ms=_age_ms(result, now_s),
        dropped=result.dropped,
    )
    return msgspec.json.encode(line).decode()


def text_line(result: Result, names: Sequence[str] = ()) -> str:
    """Return a result as one line to read; with several sources it begins with the source's name."""
    dropped = f"  {result.dropped} dropped" if result.dropped else ""
    name = f"{_name(result, names)}  " if len(names) > 1 else ""
    return f"{name}{result.frame_id:>6}  {_answer(result)}  {result.stages_ms['total']:.1f} ms{dropped}"


def csv_head(top_k: int) -> str:
    """Return the first line of a table of results with up to `top_k` classes each."""
    classes = [f"{column}_{place}" for place in range(1, top_k + 1) for column in ("label", "score")]
    return _csv(["source", "source_name", "frame_id", "time_s", *classes, *(f"{stage}_ms" for stage in STAGES), "age_ms", "dropped"])


def csv_line(result: Result, names: Sequence[str] = (), *, top_k: int, now_s: float | None = None) -> str:
    """Return a result as one record of RFC 4180 (a line break in a label stays in it); cells of absent classes are empty."""
    classes = [cell for _, label, score in result.top_k[:top_k] for cell in (label, f"{score:.6f}")]
    classes += [""] * (2 * top_k - len(classes))
    stages = [f"{result.stages_ms[stage]:.4f}" if stage in result.stages_ms else "" for stage in STAGES]
    begin = [result.source, _name(result, names), result.frame_id, f"{result.time_s:.6f}"]
    return _csv([*begin, *classes, *stages, _age_ms(result, now_s), result.dropped])


def _csv(cells: Sequence[object]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=CSV_END).writerow(cells)  # without its end, a line break in a cell would not be quoted
    return text.getvalue().removesuffix(CSV_END)


def _name(result: Result, names: Sequence[str]) -> str:
    return names[result.source] if result.source < len(names) else f"source {result.source}"


def _age_ms(result: Result, now_s: float | None) -> float:
    return round(((time.monotonic() if now_s is None else now_s) - result.captured_s) * 1e3, 4)


def _answer(result: Result) -> str:
    return ", ".join(f"{label} {score:.1%}" for _, label, score in result.top_k) or "nothing above the threshold"


LINES: dict[str, Callable[[Result], str]] = {"text": text_line, "jsonl": json_line}


class LineOutput:
    """Writes each result as one flushed line; an `Output`.

    Args:
        line: from a result to its line, without the end.
        end: what ends a line.
        head: a line that is written before the first one, if not empty.
    """

    def __init__(self, stream: TextIO, line: Callable[[Result], str], *, end: str = "\n", head: str = "") -> None:
        self.name = "lines"
        self._stream, self._line, self._end, self._head = stream, line, end, head

    def write(self, frame: Frame, result: Result) -> None:
        head, self._head = self._head, ""  # once it was given to the stream's buffer it comes out before all else
        if head:
            self._stream.write(head + self._end)
        self._stream.write(self._line(result) + self._end)
        self._stream.flush()

    def close(self) -> None:
        """Flush the stream, and close it unless it is stdout itself; closes it also when nobody reads it any more."""
        if self._stream is sys.stdout:
            self._stream.flush()
        else:
            self._stream.close()


def line_output(kind: Literal["text", "jsonl", "csv"], stream: TextIO, *, sources: Sequence[Told], top_k: int) -> LineOutput:
    """Return the output for one kind of lines of these sources."""
    names = [source.name for source in sources]
    if kind == "csv":
        return LineOutput(stream, lambda result: csv_line(result, names, top_k=top_k), end=CSV_END, head=csv_head(top_k))
    if kind == "text":
        readable = distinct(names)
        return LineOutput(stream, lambda result: text_line(result, readable))
    glance = Glance(sources)
    return LineOutput(stream, lambda result: json_line(result, names, status=glance(result.source)))


def own_stdout() -> TextIO:
    """Return a stream to where stdout goes, with a buffer and a lock of its own.

    A thread that is blocked in a write holds the lock of its stream: were it stdout's, the interpreter could not end.
    Letters that stdout's encoding lacks are escaped.
    """
    try:
        number = os.dup(sys.stdout.fileno())
    except (OSError, ValueError):  # not a real file
        return sys.stdout
    sys.stdout.flush()
    return open(number, "w", encoding=sys.stdout.encoding, errors="backslashreplace", newline="")
