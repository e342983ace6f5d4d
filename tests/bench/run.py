"""Run the benchmarks, write runs/bench/results.json in one step, and tell what misses its bound.

A new benchmark is a module beside this one and one line in `ENTRIES`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from conversion import conversion
from entry import OUT, Entry, Measure
from loops import measured as loops
from process_start import first_result, help_start
from runtime_loop import loop_overhead
from shipped import int8_vs_fp32_latency, partitions
from training_loop import training_loop
from view_cache import view_cache

from edgedistill.bundle import write_atomically

SCHEMA = 1
ENTRIES: dict[str, Measure] = {
    "loop_overhead": loop_overhead,
    "loops": loops,
    "first_result": first_result,
    "help_start": help_start,
    "int8_vs_fp32_latency": int8_vs_fp32_latency,
    "partitions": partitions,
    "conversion": conversion,
    "view_cache": view_cache,
    "training_loop": training_loop,
}


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """What a results file holds."""

    schema: int
    entries: list[Entry]


def main(arguments: Sequence[str] | None = None, *, entries: Mapping[str, Measure] = ENTRIES, out: Path = OUT / "results.json") -> int:
    """Run the named benchmarks, or all, and return the exit code: 0 if every bound holds, 1 if one does not."""
    parser = argparse.ArgumentParser(prog="tests/bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which to run, the others' results are kept; default: {', '.join(entries)}"
    )
    parser.add_argument("--out", type=Path, default=out, help="where the results go (default: %(default)s)")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(entries))
    if unknown:
        parser.error(f"unknown benchmark {', '.join(unknown)}; known: {', '.join(entries)}")
    found: list[Entry] = []
    for name in options.names or entries:
        print(f"{name} …", file=sys.stderr, flush=True)
        found.extend(entries[name]())
    write_results(options.out, among_others(found, options.out) if options.names else found)
    print(table(found))
    return 0 if all(entry.ok for entry in found) else 1


def among_others(found: Sequence[Entry], path: Path) -> list[Entry]:
    """Return the entries with those that a file has of other names, in the file's order: what is measured again takes its place there."""
    kept = msgspec.json.decode(path.read_bytes(), type=Results).entries if path.exists() else []
    again = {entry.name: entry for entry in found}
    return [again.pop(entry.name, entry) for entry in kept] + list(again.values())


def write_results(path: Path, entries: Sequence[Entry]) -> None:
    """Write the results file: {"schema": 1, "entries": […]}."""
    text = msgspec.json.format(msgspec.json.encode(Results(schema=SCHEMA, entries=list(entries))), indent=2)
    write_atomically(path, text + b"\n")


def table(entries: Sequence[Entry]) -> str:
    """Return the results for reading: one line an entry, and below it how it was taken."""
    lines = []
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        bound = "" if entry.bound is None else f"at most {entry.bound:g} {entry.unit}"
        verdict = "for information" if entry.bound is None else "ok" if entry.ok else "NOT OK"
        lines.append(f"{entry.name:<{width}} {entry.value:>9.4g} {entry.unit:<6} {bound:<20} {verdict}")
        lines.append(f"    {entry.how}")
    return "\n".join(lines)
