"""Whether int8 pays on this machine: the shipped TFLite pair, int8 against fp32."""

from __future__ import annotations

from bundles import small_bundle
from entry import Entry, at_most, interleave, machine, median
from timing import invoke_ms, prepare

from edgedistill import bundle
from edgedistill.runtime import open_engine
from edgedistill.runtime.conditions import environment

ROUNDS = 400


def int8_vs_fp32_latency() -> list[Entry]:
    """Compare the median `invoke` of both precisions in interleaved runs; below 1, int8 is the faster one."""
    loaded = bundle.load(small_bundle())
    int8, fp32 = (prepare(open_engine(loaded, f"tflite-{precision}", threads=1), loaded) for precision in ("int8", "fp32"))
    int8_ms, fp32_ms = map(median, interleave([lambda: invoke_ms(int8), lambda: invoke_ms(fp32)], rounds=ROUNDS))
    how = (
        f"p50 of {ROUNDS} interleaved runs each, {loaded.manifest.name}, {int8.name} {int8.version}, 1 thread: int8 {int8_ms:.3f} ms, "
        f"fp32 {fp32_ms:.3f} ms; {instructions()}; {machine()}"
    )
    return [at_most("int8_vs_fp32_latency", int8_ms / fp32_ms, bound=None, unit="ratio", how=how)]


def instructions() -> str:
    """Return which instruction set the verdict is about, because int8 pays only where there are dot products for it."""
    found = environment()
    return f"the verdict is about {found['machine']} with {', '.join(found['int8']) or 'no int8 dot products'}, other boards differ"
