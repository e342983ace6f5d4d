"""The results that `camera --output jsonl` writes, one JSON object a line: what a line holds, and reading lines back.

One struct serves the writer (`outputs.lines`) and the reader here, which needs nothing that a device lacks.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import IO, Annotated, Any

import msgspec

from edgedistill.errors import DataError
from edgedistill.runtime.quality import Quality

log = logging.getLogger("edgedistill.runtime")

#: Counted up when a key of a line changes its meaning; new keys leave it.
SCHEMA = 1
#: A longer line is none that the loop writes: all of 20,000 classes with long names are a tenth of it.
MOST_LINE_BYTES = 16 * 2**20

Count = Annotated[int, msgspec.Meta(ge=0)]


class _Struct(msgspec.Struct, frozen=True, kw_only=True):
    """A frozen record; a reader passes over keys that it does not know, since new ones leave the schema's number."""


class LineSource(_Struct, frozen=True, kw_only=True):
    """Where a frame came from, and how well that delivers.

    Args:
        index: the source's place among the `--source` options, from 0.
        name: without credentials.
        quality: excellent, fair, poor or unusable, as everywhere else; looked at about twice a second; None where nobody tells.
        dropped: frames of this source that were lost since the start of the run, by cause; likewise.
    """

    index: Count
    name: str
    quality: Quality | None = None
    dropped: dict[str, Count] | None = None


class LineClass(_Struct, frozen=True, kw_only=True):
    """A class of the answer: its number, its label and its probability (0 to 1)."""

    class_id: Count
    label: str
    score: float


class StageTimes(_Struct, frozen=True, kw_only=True):
    """How long each stage took in milliseconds; `total` is from the frame's arrival to its result."""

    capture: float
    preprocess: float
    invoke: float
    postprocess: float
    total: float


class ResultLine(_Struct, frozen=True, kw_only=True):
    """One line: the answer for one frame.

    Args:
        frame_id: the number of the frame from 0; numbers that are missing were dropped.
        time_s: when the frame arrived, in seconds since 1970.
        time_monotonic_s: the same by a clock that never jumps, to take differences of.
        top_k: likeliest class first; those below the threshold are left out.
        age_ms: how old the frame was when the line was written.
        dropped: frames that were dropped since the start of the run, of all sources together.
    """

    schema: int = SCHEMA
    source: LineSource
    frame_id: Count
    time_s: float
    time_monotonic_s: float
    top_k: tuple[LineClass, ...]
    stages_ms: StageTimes
    age_ms: float
    dropped: Count


def read_results(path_or_stream: str | os.PathLike[str] | IO[str] | IO[bytes], *, finished: bool = False) -> Iterator[ResultLine]:
    """Yield the results of a file, or of a stream such as standard input, each as soon as its line is there.

    Raises DataError, with the place and what to do, for a file that cannot be opened or read, a schema number that this version does not
    know, and a broken line. A last line that lacks its end is something else: the run was killed in the middle of it, or is still
    writing. It is left out with a warning in the log, after all results before it have been yielded.

    Args:
        path_or_stream: a path, or an open stream of text or bytes, which is left open.
        finished: the run is known to be over and well: then a last line without its end is refused, too.
    """
    if not isinstance(path_or_stream, str | os.PathLike):
        yield from _results(path_or_stream, str(getattr(path_or_stream, "name", "the stream of results")), finished=finished)
        return
    name = os.fspath(path_or_stream)
    try:
        stream = open(name, "rb")  # noqa: SIM115  # an error of whoever takes the results must not be taken for one of opening
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise DataError(f"{name!r} cannot be read: {error}; give the file that `camera --output jsonl` wrote") from error
    with stream:
        yield from _results(stream, name, finished=finished)


def _results(stream: IO[Any], name: str, *, finished: bool) -> Iterator[ResultLine]:
    for number, line in enumerate(_lines(stream, name), start=1):
        where = f"{name}, line {number}"
        ended = line.endswith("\n" if isinstance(line, str) else b"\n")
        try:
            result = msgspec.json.decode(line, type=ResultLine)
        except (ValueError, RecursionError) as error:  # ValueError: not UTF-8, an integer of thousands of digits, msgspec's own
            if not ended and not finished and not _is_json(line):
                log.warning("%s is unfinished and left out: the run was killed, or is still writing", where)
                return
            raise DataError(f"{where} {_fault(line, error, ended=ended)}") from error
        if result.schema != SCHEMA:
            raise DataError(f"{where} {_other_schema(result.schema)}")
        yield result


def _lines(stream: IO[Any], name: str) -> Iterator[Any]:
    """Yield the lines of a stream with their ends, none of them longer than allowed."""
    number = 1
    while True:
        try:
            line = stream.readline(MOST_LINE_BYTES + 1)
        except (OSError, ValueError) as error:  # ValueError: text that is not UTF-8, a closed stream
            raise DataError(f"{name}, line {number} cannot be read: {error}; check the file and the disk it is on") from error
        if not line:
            return
        if len(line) > MOST_LINE_BYTES:
            raise DataError(
                f"{name}, line {number} is longer than {MOST_LINE_BYTES:,} bytes; give the file that `camera --output jsonl` wrote"
            )
        yield line
        number += 1


def _is_json(line: str | bytes) -> bool:
    """Return whether a line is a whole JSON value, which no part of a result is."""
    try:
        msgspec.json.decode(line)
    except (ValueError, RecursionError):
        return False
    return True


def _fault(line: str | bytes, error: Exception, *, ended: bool) -> str:
    """Return what is wrong with a line that is no result, and what to do."""
    if not ended and not _is_json(line):
        return "is unfinished: the run did not end well, or is still writing; run the camera again, or read without `finished`"
    try:
        found = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        schema = msgspec.json.decode(found["schema"]) if "schema" in found else None
    except (ValueError, RecursionError):
        return f"is no result ({error}); take the line out, or run the camera again with --output jsonl"
    if schema is None:
        return "has no schema number, so it is no result; give the file that `camera --output jsonl` wrote"
    if type(schema) is not int or schema != SCHEMA:
        return _other_schema(schema)
    return f"is no result of schema {SCHEMA} ({error}); take the line out, or run the camera again with --output jsonl"


def _other_schema(found: object) -> str:
    return f"has schema {str(found)[:40]}, this version reads schema {SCHEMA}; update edgedistill, or run the camera again"
