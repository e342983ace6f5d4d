"""Latency by stage, frames per second, memory and start-up time of one model file on this machine.

The frames are the test pattern at 640x480, drawn beforehand. The stage `capture` is a copy of such a frame, the least that
any camera costs; what a camera adds by decoding is measured by the camera loop on the camera itself.
"""

from __future__ import annotations

import itertools
import time
from typing import Any, Literal, NamedTuple

import msgspec

from edgedistill.errors import EngineError
from edgedistill.latency import STAGES, LatencyRecorder, Percentiles
from edgedistill.runtime import energy, process
from edgedistill.runtime.camera import Classifier
from edgedistill.runtime.conditions import environment, machine_now, throttle_warning
from edgedistill.runtime.energy import Energy, EnergyOptions
from edgedistill.runtime.engines import BundleOrPath, Engine, as_bundle, default_threads, open_engine, usable_cores
from edgedistill.runtime.frames import Frame
from edgedistill.runtime.pattern import draw_pattern

SCHEMA = 1
PATTERN_FRAMES = 32


class ProfileOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Which file to profile and how; `threads="auto"` measures 1 to all cores and reports the best p90.

    `runs` frames are measured after `warmup` frames that are not. Where the machine tells what it draws, the energy of a frame is
    measured too, unless `energy` is None.
    """

    file: str | None = None
    engine: str | None = None
    threads: int | Literal["auto"] | None = None
    runs: int = 200
    warmup: int = 10
    energy: EnergyOptions | None = EnergyOptions()


DEFAULTS = ProfileOptions()


class Measured(NamedTuple):
    """One thread count: what ran, its latencies, and how many frames a second."""

    engine: Engine
    stages_ms: dict[str, Percentiles]
    fps: float


def profile(bundle: BundleOrPath, options: ProfileOptions = DEFAULTS) -> dict[str, Any]:
    """Return what `profile --json` prints: see devices/camera.md for its keys.

    Memory and start-up time are those of this process, so that only a process that does nothing else tells the bundle's.
    """
    loaded = as_bundle(bundle)
    if options.runs < 1 or options.warmup < 0:
        raise EngineError(f"cannot profile {options.runs} runs after {options.warmup} of warm-up; give at least 1 run")
    if options.energy is not None:
        energy.check(options.energy)
    given = default_threads() if options.threads is None else options.threads
    counts = sweep_counts(usable_cores()) if given == "auto" else [given]
    first_result_s: float | None = None
    before = machine_now()
    found: list[Measured] = []
    for threads in counts:
        classify = Classifier(loaded, open_engine(loaded, options.file, threads, engine=options.engine))
        classify(_frames(1)[0])
        first_result_s = first_result_s or process.age_s()
        found.append(measure(classify, options))
    best = min(found, key=lambda measured: measured.stages_ms["total"].p90)
    model = best.engine.model
    after = machine_now()
    spent = measure_energy(Classifier(loaded, best.engine), options.energy)
    return {
        "schema": SCHEMA,
        "bundle": loaded.manifest.name,
        "file": model.file,
        "engine": best.engine.name,
        "threads": best.engine.threads,
        "runs": options.runs,
        "stages_ms": {stage: best.stages_ms[stage]._asdict() for stage in STAGES},
        "fps": best.fps,
        "peak_rss_mb": process.peak_rss_mb(),
        "first_result_s": first_result_s,
        "sweep": [{"threads": one.engine.threads, "total_ms": one.stages_ms["total"]._asdict(), "fps": one.fps} for one in found],
        "energy": None if spent is None else spent._asdict(),
        "machine": {"before": before._asdict(), "after": after._asdict()},
        "warning": throttle_warning(before, after),
        "environment": environment() | {"file_sha256": model.sha256},
    }


def sweep_counts(cores: int) -> list[int]:
    """Return the thread counts to try: every one up to 8, then doubling, and all cores."""
    return sorted({*range(1, min(cores, 8) + 1), *(count for count in (16, 32, 64, 128) if count < cores), cores})


def measure(classify: Classifier, options: ProfileOptions) -> Measured:
    """Classify `runs` frames after the warm-up, one after the other."""
    recorder = LatencyRecorder(warmup=options.warmup)
    drawn = _frames(PATTERN_FRAMES)
    for number in range(options.warmup + options.runs):
        began_s = time.monotonic()
        frame_bgr = drawn[number % PATTERN_FRAMES].frame_bgr.copy()
        frame = Frame(number, frame_bgr, began_s, 0.0, (time.monotonic() - began_s) * 1e3)
        recorder.add(classify(frame).stages_ms)
    total_ms = recorder.values_ms("total")
    return Measured(classify.engine, recorder.summary(), 1e3 * len(total_ms) / sum(total_ms))


def measure_energy(classify: Classifier, options: EnergyOptions | None) -> Energy | None:
    """Return the energy of a frame; None where nothing here measures it, or it is not wanted."""
    meter = energy.find_meter(options.power_file) if options is not None else None
    if meter is None or options is None:
        return None
    drawn = itertools.cycle(_frames(PATTERN_FRAMES))
    return energy.measure(meter, lambda: classify(next(drawn)), options)


def as_text(found: dict[str, Any]) -> str:
    """Return a profile to read."""
    at = found["environment"]
    version = at["versions"].get(found["engine"], "")
    lines = [
        f"{found['file']} by {found['engine']} {version}, threads: {found['threads']}, runs: {found['runs']}",
        f"{'ms':<12}{'p50':>9}{'p90':>9}{'p99':>9}{'max':>9}",
    ]
    lines += [f"{stage:<12}" + "".join(f"{value:>9.3f}" for value in ms.values()) for stage, ms in found["stages_ms"].items()]
    if len(found["sweep"]) > 1:
        lines += [f"threads: {one['threads']}, p90 {one['total_ms']['p90']:.3f} ms" for one in found["sweep"]]
    memory, first = f"peak memory {found['peak_rss_mb']:.0f} MB", f"first result after {found['first_result_s']:.2f} s"
    int8 = ", ".join(at["int8"]) or "none"
    lines.append(f"{found['fps']:.0f} frames a second; {memory}; {first}")
    lines.append(energy.as_text(None if found["energy"] is None else Energy(**found["energy"])))
    lines.append(f"on {at['cpu']}, {at['cores']} cores, int8 instructions: {int8}; governor: {at['governor'] or 'unknown'}")
    lines += [_machine_text(when, machine) for when, machine in found["machine"].items()]
    return "\n".join(lines + ([f"WARNING: {found['warning']}"] if found["warning"] else []))


def _machine_text(when: str, machine: dict[str, Any]) -> str:
    degrees = "unknown" if machine["temperature_c"] is None else f"{machine['temperature_c']:.1f} degrees"
    flags = "unknown" if machine["throttled"] is None else ", ".join(machine["throttled"]) or "none"
    return f"{when}: temperature {degrees}; throttling: {flags}"


def _frames(count: int) -> list[Frame]:
    return [Frame(number, draw_pattern(number), 0.0, 0.0, 0.0) for number in range(count)]
