"""Every file of a bundle by every installed interpreter and thread count, timed in turn: which of them is fastest here, and by how much.

A round runs each combination for a short burst, in an order that turns round every round: what the machine does meanwhile meets
all of them. Only `invoke` is timed; what a frame costs in all is `profile`'s business. Memory is the peak of a process of its own
that classifies a few frames.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from edgedistill.bundle import Bundle
from edgedistill.errors import EngineError, MissingExtraError
from edgedistill.latency import Percentiles, percentiles
from edgedistill.runtime.conditions import environment, machine_now, throttle_warning
from edgedistill.runtime.engines import (
    ENGINES,
    BundleOrPath,
    Engine,
    as_bundle,
    default_threads,
    installed_engines,
    open_engine,
    usable_cores,
)
from edgedistill.runtime.profile import sweep_counts

SCHEMA = 1
#: How long the process that tells the memory may take.
MEMORY_TIMEOUT_S = 120.0


class CompareOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared and how long.

    `threads` are counts, `"auto"` tries all that make sense here; by default 1 and what `profile` takes. In each of the `rounds`
    a combination runs `burst` times, after one run that is not counted because it finds the caches as another one left them.
    """

    threads: Sequence[int] | Literal["auto"] | None = None
    rounds: int = 20
    burst: int = 10
    memory: bool = True


DEFAULTS = CompareOptions()


class Row(NamedTuple):
    """One combination: percentiles of `invoke`, its spread between rounds, how many times the fastest one's time it takes.

    `spread` is the difference between the slowest and the fastest round's median, as a fraction of their median; `ratio` is the median
    of the rounds' ratios. `peak_rss_mb` is None where it was not measured.
    """

    file: str
    engine: str
    version: str
    threads: int
    invoke_ms: Percentiles
    spread: float
    ratio: float
    peak_rss_mb: float | None


class LeftOut(NamedTuple):
    """A combination that cannot run here, and why."""

    file: str
    engine: str
    reason: str


class Comparison(NamedTuple):
    """All combinations, the fastest first."""

    bundle: str
    rows: tuple[Row, ...]
    left_out: tuple[LeftOut, ...]


def compare(
    bundle: BundleOrPath,
    options: CompareOptions = DEFAULTS,
    *,
    clock: Callable[[], int] = time.perf_counter_ns,
    memory: Callable[[Bundle, Engine], float | None] | None = None,
) -> Comparison:
    """Compare all files, interpreters and thread counts.

    Args:
        clock: nanoseconds.
        memory: returns the peak memory, in MB, of a process that runs an engine's file as the engine does.

    Raises EngineError where nothing can run, or the options make no sense.
    """
    loaded = as_bundle(bundle)
    counts = thread_counts(options)
    engines, left_out = _open_all(loaded, counts)
    if not engines:
        reasons = "; ".join(f"{one.file} by {one.engine}: {one.reason}" for one in left_out)
        raise EngineError(f"no file of {loaded.path} can run here: {reasons}")
    taken = _measure(engines, options, clock=clock)
    medians = np.median(taken, axis=2)
    fastest = int(np.argmin(np.median(medians, axis=1)))
    peak = memory or peak_rss_mb
    rows = [
        _row(engine, taken[i], against=medians[fastest], peak=peak(loaded, engine) if options.memory else None)
        for i, engine in enumerate(engines)
    ]
    return Comparison(loaded.manifest.name, tuple(sorted(rows, key=lambda row: row.ratio)), tuple(left_out))


def thread_counts(options: CompareOptions) -> list[int]:
    """Return the thread counts to try, in order."""
    if options.rounds < 1 or options.burst < 1:
        raise EngineError(f"cannot compare in {options.rounds} rounds of {options.burst} runs; give at least 1 of each")
    if options.threads == "auto":
        return sweep_counts(usable_cores())
    counts = sorted({1, default_threads()} if options.threads is None else set(options.threads))
    if not counts or counts[0] < 1:
        raise EngineError(f"threads is {counts}; give numbers of 1 or more, such as 1,2")
    return counts


def _open_all(bundle: Bundle, counts: Sequence[int]) -> tuple[list[Engine], list[LeftOut]]:
    """Open each file by each interpreter for its format, at every thread count, with an input of noise."""
    pixels = noise(bundle)
    installed = installed_engines()
    engines: list[Engine] = []
    left_out: list[LeftOut] = []
    for model in bundle.manifest.files:
        for name in (name for name, entry in ENGINES.items() if entry.format == model.format):
            if name not in installed:
                left_out.append(LeftOut(model.file, name, f"{ENGINES[name].package} is not installed"))
                continue
            try:
                opened = [open_engine(bundle, model.file, threads, engine=name) for threads in counts]
            except (EngineError, MissingExtraError) as error:
                left_out.append(LeftOut(model.file, name, str(error)))
                continue
            for engine in opened:
                engine.set_input(pixels)
            engines += opened
    return engines, left_out


def noise(bundle: Bundle) -> np.ndarray:
    """Return pixels as `Preprocessor` makes them, of noise: zeros could be computed faster than an image."""
    spec = bundle.manifest.input
    pixels = np.random.default_rng(0).integers(0, 256, (1, spec.height, spec.width, 3), np.uint8)
    return pixels if spec.mean is None else (pixels / np.float32(255)).astype(np.float32)


def _measure(engines: Sequence[Engine], options: CompareOptions, *, clock: Callable[[], int]) -> np.ndarray:
    """Return the milliseconds of each counted run, (engines, rounds, burst)."""
    taken = np.empty((len(engines), options.rounds, options.burst))
    for number in range(options.rounds):
        order = range(len(engines)) if number % 2 == 0 else reversed(range(len(engines)))
        for index in order:
            invoke = engines[index].invoke
            invoke()
            for run in range(options.burst):
                start = clock()
                invoke()
                taken[index, number, run] = max(clock() - start, 1) / 1e6
    return taken


def _row(engine: Engine, taken_ms: np.ndarray, *, against: np.ndarray, peak: float | None) -> Row:
    medians = np.median(taken_ms, axis=1)
    return Row(
        file=engine.model.file,
        engine=engine.name,
        version=engine.version,
        threads=engine.threads,
        invoke_ms=percentiles(taken_ms.ravel()),
        spread=float((medians.max() - medians.min()) / np.median(medians)),
        ratio=float(np.median(medians / against)),
        peak_rss_mb=peak,
    )


def peak_rss_mb(bundle: Bundle, engine: Engine) -> float | None:
    """Return the peak memory of a process that profiles an engine's file for a few frames; None if that fails."""
    options = ["--file", engine.model.file, "--engine", engine.name, "--threads", str(engine.threads), "--runs", "3", "--json"]
    command = [sys.executable, "-m", "edgedistill.runtime", "profile", str(bundle.path), *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MEMORY_TIMEOUT_S, check=True)
        return float(json.loads(done.stdout)["peak_rss_mb"])
    except (subprocess.SubprocessError, OSError, ValueError, KeyError):
        return None


def as_json(found: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON values, with the conditions that it holds for."""
    return {
        "schema": SCHEMA,
        "bundle": found.bundle,
        "rows": [row._asdict() | {"invoke_ms": row.invoke_ms._asdict()} for row in found.rows],
        "left_out": [one._asdict() for one in found.left_out],
        "environment": environment(),
    }


def as_text(found: dict[str, Any]) -> str:
    """Return what `as_json` gave as a table to read."""
    header = ("file", "engine", "threads", "p50 ms", "p90 ms", "p99 ms", "spread", "ratio", "memory MB")
    lines = [header, *map(_cells, found["rows"])]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    at = found["environment"]
    text = ["  ".join(_aligned(line, widths)).rstrip() for line in lines]
    reasons = dict.fromkeys((one["engine"], one["reason"]) for one in found["left_out"])
    text += [f"left out: {engine}: {reason}" for engine, reason in reasons]
    int8 = ", ".join(at["int8"]) or "none"
    text.append(f"on {at['cpu']}, {at['cores']} cores, int8 instructions: {int8}; governor: {at['governor'] or 'unknown'}")
    return "\n".join(text + ([f"WARNING: {found['warning']}"] if found.get("warning") else []))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    ms = row["invoke_ms"]
    memory = "-" if row["peak_rss_mb"] is None else f"{row['peak_rss_mb']:.0f}"
    figures = (f"{ms['p50']:.3f}", f"{ms['p90']:.3f}", f"{ms['p99']:.3f}", f"{row['spread']:.0%}", f"{row['ratio']:.2f}")
    return (row["file"], f"{row['engine']} {row['version']}", str(row["threads"]), *figures, memory)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    pairs = list(zip(line, widths, strict=True))
    return [cell.ljust(width) for cell, width in pairs[:2]] + [cell.rjust(width) for cell, width in pairs[2:]]


def compare_command(bundle: BundleOrPath, options: CompareOptions, *, as_json_object: bool = False) -> int:
    """Compare and write a table or one JSON object to stdout."""
    before = machine_now()
    found = as_json(compare(bundle, options))
    after = machine_now()
    found |= {"machine": {"before": before._asdict(), "after": after._asdict()}, "warning": throttle_warning(before, after)}
    print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode() if as_json_object else as_text(found))
    return 0
