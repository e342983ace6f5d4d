"""Figures of the camera loop as text from what its measurements wrote: wear and faults, other loops beside it, an emulated board.

The files are `devices/BOARD/measured/NAME.json`, each written by one command. Where a file is missing, its part of a document says so and
names the command, so that no figure outlives its file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from loop_tables import loops_line, loops_table, table_row

from edgedistill.demo.summary import DASH, percent

ROOT = Path(__file__).parents[1]
SCHEMA = 1
COMMANDS = {"soak": "python tests/soak --out", "loops": "python tests/bench/loops.py --out", "arm": "python tests/arm --out"}
#: At the end of each `how`: what else ran on the machine.
CONDITIONS = re.compile(r"; (\d+ CPUs), load average ([\d.]+), (Python [\d.]+)$")
#: Entries without a unit that are shares and not counts.
SHARES = re.compile(r"cost_of_\w+|p95_drift")


class Test(NamedTuple):
    """A row of the short table: the entries that match, of which the worst is shown, and the words for them.

    A group of the pattern is the way in which it was tried.
    """

    pattern: str
    text: str


TESTS = (
    Test("first_result_after_outage_s", "an HTTP camera is away for 5 s: from its return to the first result"),
    Test("first_result_after_rtsp_outage_s", "the same with an RTSP camera"),
    Test("frames_lost_beside_the_(?:rtsp_)?outage", "frames lost beside those of these outages"),
    Test("reconnects_rss_mb", "1,000 reconnects: memory that is kept"),
    Test("reconnects_threads", "1,000 reconnects: threads that are kept"),
    Test("reconnects_descriptors", "1,000 reconnects: file descriptors that are kept"),
    Test("rss_slope_mb_per_hour", "100,000 frames: growth of memory"),
    Test("p95_drift", "100,000 frames: drift of a frame's p95 over the run"),
    Test("frame_age_ms", "p99 age of a frame at its result, inference 5 times slower than the camera"),
    Test(r"cost_of_(?!200_viewers)(\w+)", "share of the frame rate that an output costs"),
    Test("cost_of_200_viewers", "share of the frame rate that 200 viewers of the live page cost"),
    Test(r"hostile_(\w+)_mb", "hostile cameras: memory beyond that with a good one"),
    Test(r"sigterm_(\w+)_s", "from SIGTERM to the end of the process"),
    Test("clips_that_do_not_play", "30 times `kill -9` while recording: clips that do not play"),
    Test("unfinished_files_left", "30 times `kill -9` while recording: unfinished files that are left"),
)


def soak_table(found: Mapping[str, Any]) -> str:
    """Return the tests of wear, one row a kind of test, and in words what missed its bound."""
    lines = ["| test | figure | bound | met |", "| --- | ---: | ---: | --- |"]
    left = [entry for entry in found["entries"] if entry["bound"] is not None]
    for test in TESTS:
        matching = [entry for entry in left if re.fullmatch(test.pattern, entry["name"])]
        left = [entry for entry in left if entry not in matching]
        if matching:
            lines.append(_soak_row(test, matching))
    lines += [table_row(f"`{entry['name']}`", figure(entry), bound(entry), _met([entry])) for entry in left]
    return "\n".join([*lines, "", verdict(found["entries"]), conditions(found["entries"])])


def _soak_row(test: Test, entries: Sequence[Mapping[str, Any]]) -> str:
    worst = max(entries, key=lambda entry: (not entry["ok"], entry["value"] - entry["bound"]))
    way = re.fullmatch(test.pattern, worst["name"])
    ways = f", worst of {len(entries)} ways ({way[1].replace('_', ' ')})" if way and way.groups() else ""
    return table_row(test.text + ways, figure(worst), bound(worst), _met(entries))


def soak_entries(found: Mapping[str, Any]) -> str:
    """Return every figure of the tests of wear with how it was taken."""
    lines = ["| figure | value | bound | met | how |", "| --- | ---: | ---: | --- | --- |"]
    for entry in found["entries"]:
        met = "for information" if entry["bound"] is None else _met([entry])
        lines.append(table_row(f"`{entry['name']}`", figure(entry), bound(entry), met, CONDITIONS.sub("", entry["how"])))
    return "\n".join(lines)


def verdict(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return in words whether all bounds hold, and each one that does not with its figure."""
    bounded = [entry for entry in entries if entry["bound"] is not None]
    missed = [entry for entry in bounded if not entry["ok"]]
    if not missed:
        return f"All {len(bounded)} bounds are met."
    told = [f"`{entry['name']}` is {figure(entry)}, at most {bound(entry)} is wanted" for entry in missed]
    return f"**Missed, {len(missed)} of {len(bounded)} bounds:** {'; '.join(told)}."


def conditions(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return on what the entries were measured, from the ends of their `how`."""
    found = [match for entry in entries if (match := CONDITIONS.search(entry["how"]))]
    loads = sorted(float(match[2]) for match in found)
    machines = sorted({f"{match[1]}, {match[3]}" for match in found})
    return f"Measured on {' and '.join(machines)}, with a load average between {loads[0]:g} and {loads[-1]:g}." if found else ""


def figure(entry: Mapping[str, Any], key: str = "value") -> str:
    """Return an entry's value, or another number of it, with its unit."""
    value, unit = entry[key], {"MB/h": "MB an hour"}.get(entry["unit"], entry["unit"])
    if not unit and SHARES.fullmatch(entry["name"]):
        return percent(value, digits=2).replace("-", "\N{MINUS SIGN}")
    number = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{number} {unit}".strip().replace("-", "\N{MINUS SIGN}")


def bound(entry: Mapping[str, Any]) -> str:
    """Return an entry's bound with its unit, a dash if there is none."""
    return DASH if entry["bound"] is None else figure(entry, "bound")


def _met(entries: Sequence[Mapping[str, Any]]) -> str:
    return "yes" if all(entry["ok"] for entry in entries) else "**no**"


#: Told of the emulated machine beside what pip installed.
NOT_FROM_PIP = ("machine", "board", "python", "edgedistill")


def arm_table(found: Mapping[str, Any]) -> str:
    """Return what ran in the emulated board: by model file beside this machine's answers, and by system what was installed."""
    suites = found["suites"]
    counts = next((suite["instructions"] for suite in suites.values() if "instructions" in suite), "not counted: it was not asked for")
    lines = [
        "| file | `selfcheck` | same answers | largest difference of a probability | allowed | instructions, million | of them vector |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for clips in zip(*(suite["clip"] for suite in suites.values()), strict=True):
        name = f"{clips[0]['bundle']} {clips[0]['file']}"
        checked = ["ok" if _checked(suite, clip) else "**not run**" for suite, clip in zip(suites.values(), clips, strict=True)]
        same = [f"{clip['same_answers']} of {clip['frames']}" for clip in clips]
        differences = [f"{clip['largest_difference']:.1e}" for clip in clips]
        count = counts.get(name) if isinstance(counts, Mapping) else None
        counted = [f"{count['all'] / 1e6:.1f}", percent(count["vector"] / count["all"], digits=0)] if count else [DASH, DASH]
        allowed = [DASH if clip["budget"] is None else f"{clip['budget']:.1e}" for clip in clips]
        lines.append(table_row(name, *map(_joined, (checked, same, differences, allowed)), *counted))
    why = f" Instructions were {counts}." if isinstance(counts, str) else ""
    return "\n".join([*lines, "", *photographs(suites), f"{_systems(suites)} {found['note'].capitalize()}.{why}"])


def photographs(suites: Mapping[str, Any]) -> list[str]:
    """Return the lines of the table of answers to real photographs, beside x86's and within what an export may lose; none without."""
    lines = ["| photographs | file | answers as on x86 | accuracy lost to x86 | allowed |", "| --- | --- | ---: | ---: | --- |"]
    for rungs in zip(*(suite.get("photographs", []) for suite in suites.values()), strict=True):
        same, lost = ([percent(rung[key], digits=2) for rung in rungs] for key in ("agreement", "drop"))
        cells = [f"{rungs[0]['photographs']:,}", rungs[0]["file"], _joined(same), _joined(lost).replace("-", "\N{MINUS SIGN}")]
        lines.append(table_row(*cells, rungs[0]["budget"].replace("<=", "at most").replace(">=", "at least")))
    return [*lines, ""] if len(lines) > 2 else []


def arm_line(found: Mapping[str, Any]) -> str:
    """Return the same in short."""
    told = []
    for name, suite in found["suites"].items():
        files, clips = sum(map(len, suite["selfcheck"].values())), suite["clip"]
        same, frames = (sum(clip[key] for clip in clips) for key in ("same_answers", "frames"))
        bounded = [clip for clip in clips if clip["budget"] is not None]
        within = sum(clip["largest_difference"] <= clip["budget"] for clip in bounded)
        told.append(
            f"{name.capitalize()} (Python {suite['versions']['python']}): {files} files pass `selfcheck`, {same} of {frames} answers over "
            f"a clip are the same, the probabilities of {within} of {len(bounded)} files that have a budget are within it."
        )
    return f"{' '.join(told)} {found['note'].capitalize()}."


def _joined(texts: Sequence[str]) -> str:
    """Return what each system says, once if all say the same."""
    return texts[0] if len(set(texts)) == 1 else " / ".join(texts)


def _checked(suite: Mapping[str, Any], clip: Mapping[str, Any]) -> bool:
    """Return whether a clip's file was self-checked; a file that fails ends the proof without any result."""
    form, _, precision = clip["file"].partition("-")
    return any(name.endswith(f"{precision}.{form}") for name in suite["selfcheck"][clip["bundle"]])


def _systems(suites: Mapping[str, Any]) -> str:
    texts = []
    for name, suite in suites.items():
        packages = [f"{package} {version}" for package, version in suite["versions"].items() if package not in NOT_FROM_PIP]
        camera = suite["http_camera"]
        texts.append(
            f"{name.capitalize()}: Python {suite['versions']['python']}, by pip {', '.join(packages)}; "
            f"HTTP camera: {camera['frames']} frames, largest difference {camera['largest_difference']:.1e}."
        )
    order = " / ".join(name.capitalize() for name in suites)
    return f"Where there are two values: {order}. {' '.join(texts)}"


#: From the part of a document to the measurement that it is made of, and how.
TABLES: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "soak": ("soak", soak_table),
    "soak-all": ("soak", soak_entries),
    "loops": ("loops", loops_table),
    "loops-line": ("loops", loops_line),
    "arm": ("arm", arm_table),
    "arm-line": ("arm", arm_line),
}


def part(name: str, board: str, *, root: Path = ROOT) -> str:
    """Return a part of a document in Markdown; where its result file is missing, how to make that."""
    missing = why_missing(name, board, root=root)
    if missing is not None:
        return f"Not measured yet: {missing}."
    measurement, make = TABLES[name]
    file = file_of(measurement, board, root=root)
    found = json.loads(file.read_text())
    if found.get("schema") != SCHEMA:
        raise ValueError(f"{file} has schema {found.get('schema')}, expected {SCHEMA}: measure again, {COMMANDS[measurement]} {file}")
    return make(found)


def why_missing(name: str, board: str, *, root: Path = ROOT) -> str | None:
    """Return what to do where the result file of a part is missing; None where it is there or the part needs none."""
    if name not in TABLES:
        return None
    file = file_of(TABLES[name][0], board, root=root)
    shown = file.relative_to(root).as_posix()
    return None if file.exists() else f"there is no `{shown}`, which `{COMMANDS[TABLES[name][0]]} {shown}` writes"


def file_of(measurement: str, board: str, *, root: Path = ROOT) -> Path:
    """Return where a measurement on a board lies."""
    return root / "devices" / board / "measured" / f"{measurement}.json"
