"""Whether int8 pays on this machine, for each shipped TFLite pair, and whether each shipped TFLite file runs in one part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bundles import shipped_bundles, small_bundle
from entry import Entry, at_most, machine
from timing import prepare

from edgedistill import bundle
from edgedistill.bundle import Bundle
from edgedistill.convert.audit import Machine, this_machine
from edgedistill.convert.audit.outside import parts
from edgedistill.convert.audit.speed import Limits, ratio
from edgedistill.runtime import open_engine

LIMITS = Limits(seconds=10.0, most=1000)


def int8_vs_fp32_latency() -> list[Entry]:
    """Compare `invoke` of both precisions in turn, for each shipped bundle that has both; below 1, int8 is the faster one."""
    loaded = [bundle.load(folder) for folder in shipped()]
    return [compare(one) for one in loaded if {"tflite-int8", "tflite-fp32"} <= kinds(one)]


def compare(loaded: Bundle, *, limits: Limits = LIMITS, on: Machine | None = None) -> Entry:
    """Return the median ratio of a bundle's TFLite pair; it has a bound only where the CPU has int8 dot products."""
    on = on or this_machine()
    int8, fp32 = (prepare(open_engine(loaded, f"tflite-{precision}", threads=1), loaded) for precision in ("int8", "fp32"))
    found = ratio(int8.invoke, fp32.invoke, limits=limits)
    low, high = found.interval
    how = (
        f"median ratio of {found.rounds} interleaved rounds, 95 % interval {low:.3f} to {high:.3f}, {loaded.manifest.name}, {int8.name} "
        f"{int8.version}, 1 thread: int8 p50 {found.p50_ms:.3f} ms; {instructions(on)}; {machine()}"
    )
    bound = 1.0 if on.int8 else None
    return at_most(f"int8_vs_fp32_latency {loaded.manifest.name}", found.ratio, bound=bound, unit="ratio", how=how)


def partitions() -> list[Entry]:
    """Count the parts of the delegate that each shipped TFLite file runs in; the same on every CPU."""
    return [entry for folder in shipped() for entry in counted(bundle.load(folder))]


def counted(loaded: Bundle) -> Iterator[Entry]:
    """Yield one entry a TFLite file of a bundle; one part is demanded."""
    for model in loaded.manifest.files:
        if model.format == "tflite":
            found = parts(loaded.file_path(model.file))
            outside = ", ".join(name for _, name in found.outside) or "nothing"
            how = f"XNNPACK's parts of the graph, outside of them {outside}; depends on the operators, not on the CPU"
            name, ok = f"partitions {model.file}", found.partitions == 1
            yield Entry(name=name, value=float(found.partitions), unit="parts", bound=1.0, ok=ok, how=how)


def kinds(loaded: Bundle) -> set[str]:
    """Return format and precision of a bundle's files."""
    return {f"{model.format}-{model.precision}" for model in loaded.manifest.files}


def shipped() -> Sequence[Path]:
    """Return the shipped bundles, or the large one while none is shipped."""
    return list(shipped_bundles()) or [small_bundle()]


def instructions(on: Machine) -> str:
    """Return which instruction set the verdict is about, because int8 pays only where there are dot products for it."""
    return f"the verdict is about {on.instructions}, other boards differ"
