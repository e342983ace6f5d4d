"""Our camera loop beside others, as text from what `tests/bench/loops.py` wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from edgedistill.demo.summary import DASH, megabytes, milliseconds, percent

#: Which of ours each other loop is held against: the one with the same interpreter. The ONNX ones come last in the table.
AGAINST = {"tensorflow-sample": "edgedistill", "mediapipe-sample": "edgedistill", "mediapipe-video": "edgedistill"} | {
    "ultralytics": "edgedistill-onnx"
}
ONNX = ("edgedistill-onnx", "ultralytics")
#: What our own loop must keep, by figure: in words, the kind of run (None: the worst), the bound, and how to write it.
OURS: dict[str, tuple[str, str | None, float, Callable[[float], str]]] = {
    "first_result_s": ("first result", "file", 0.8, lambda value: f"{value:.2f} s"),
    "peak_rss_mb": ("peak memory", None, 120.0, lambda value: f"{value:.1f} MB"),
    "cpu_share_beside_inference": (
        "CPU beside the inference at 6 frames a second",
        "slow",
        0.03,
        lambda value: f"{percent(value)} of a core",
    ),
}
#: In which of the figures less is better, by kind of run, and what the verdict calls them.
LESS = {"age": ("live", "age_p99_ms"), "CPU": ("file", "cpu_ms_a_result"), "memory": (None, "peak_rss_mb")} | {
    "start": ("file", "first_result_s")
}


def loops_table(found: Mapping[str, Any]) -> str:
    """Return our camera loop beside the others, and in words what it misses."""
    lines = [
        "| loop | model | frames a second | p99 age, ms | CPU, ms a result | CPU at 30 a second | peak MB | first result, s | ours to it |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    rows = found["rows"]
    for name in sorted(rows, key=ONNX.__contains__):
        row, ours = rows[name], rows.get(AGAINST.get(name, ""))
        cells = [f"{row['what']} ({told(row, 'file', 'version')})", "ONNX int8" if name in ONNX else "TFLite int8"]
        cells += [_number(row, "file", "fps", "{:.0f}"), _number(row, "live", "age_p99_ms", "{:.0f}")]
        cells += [milliseconds(told(row, "file", "cpu_ms_a_result")), percent(told(row, "live", "cpu_share"), digits=0)]
        cells += [megabytes(told(row, None, "peak_rss_mb")), _number(row, "file", "first_result_s", "{:.2f}")]
        lines.append(table_row(*cells, against(ours, row) if ours else ""))
    left_out = [f"Left out: {name} ({reason})." for name, reason in found["left_out"].items()]
    return "\n".join([*lines, "", " ".join([our_bounds(rows["edgedistill"]), *slower(rows), *left_out]), _conditions(found)])


def loops_line(found: Mapping[str, Any]) -> str:
    """Return the same in short: our rate to each other loop's, our bounds, and what is missed or left out."""
    rows = found["rows"]
    rates = [
        f"{rate(rows[ours], rows[name]):.2f} times {rows[name]['what']}" for name, ours in AGAINST.items() if {name, ours} <= set(rows)
    ]
    left_out = [f"Left out: {name} ({reason})." for name, reason in found["left_out"].items()]
    ratios = f"Our frames a second to theirs: {'; '.join(rates)}."
    return " ".join([ratios, our_bounds(rows["edgedistill"]), *slower(rows), *left_out])


def against(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """Return how many times their rate ours is, and in what we are behind."""
    ratio = rate(ours, theirs)
    behind = [word for word, (kind, name) in LESS.items() if _more(told(ours, kind, name), told(theirs, kind, name))]
    text = f"{ratio:.2f} times its rate" if ratio >= 1 else f"**slower**: {ratio:.2f} times its rate"
    return f"{text}; behind in {', '.join(behind)}" if behind else text


def rate(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    """Return how many times their frames a second ours are, on a video as fast as it goes."""
    return float(told(ours, "file", "fps") / told(theirs, "file", "fps"))


def _more(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and one > other


def our_bounds(ours: Mapping[str, Any]) -> str:
    """Return in words what our loop takes, and whether that is within its bounds."""
    texts, missed = [], []
    for name, (words, kind, most, write) in OURS.items():
        value = told(ours, kind, name)
        texts.append(f"{words} {write(value)} (at most {write(most)})")
        missed += [words] if value > most else []
    return f"Ours, with LiteRT: {', '.join(texts)}. " + (f"**Missed: {', '.join(missed)}.**" if missed else "All of these are met.")


def slower(rows: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence if another loop is faster than ours."""
    pairs = [(name, ours) for name, ours in AGAINST.items() if name in rows and ours in rows]
    faster = [rows[name]["what"] for name, ours in pairs if rate(rows[ours], rows[name]) < 1]
    if faster:
        yield f"**Missed: to be at least as fast as {'; '.join(faster)}.**"


def _conditions(found: Mapping[str, Any]) -> str:
    machine, versions = found["environment"], found["environment"]["versions"]
    return (
        f"Medians of {found['rounds']} rounds in turn with `{found['bundle']}`, 1 thread, a video of 640×480 as fast as it goes, and for "
        f"the age an HTTP camera of {found['camera_fps']['live']:g} frames a second; on {machine['cpu']}, {machine['cores']} cores, int8 "
        f"instructions: {', '.join(machine['int8']) or 'none'}; Python {versions['python']}."
    )


def told(row: Mapping[str, Any], kind: str | None, name: str) -> Any:
    """Return a figure of a loop in one kind of run, or the largest of all kinds; None where it was not measured."""
    if kind is not None:
        return row.get(kind, {}).get(name)
    return max((run[name] for key, run in row.items() if key != "what" and run[name] is not None), default=None)


def _number(row: Mapping[str, Any], kind: str, name: str, form: str) -> str:
    value = told(row, kind, name)
    return DASH if value is None else form.format(value)


def table_row(*cells: str) -> str:
    """Return a row of a table in Markdown."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
