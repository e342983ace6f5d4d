"""What a conversion takes: a shipped student to a checked bundle, by step, without any training."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from entry import ROOT, Entry, at_most, machine

STUDENT = ROOT / "models" / "fashion-mnist-mobilenetv3"


def conversion() -> list[Entry]:
    """Export the shipped MobileNetV3 student as its recipe says and tell the seconds of each step."""
    from edgedistill import pipeline

    def tell(text: str, done: int, total: int) -> None:
        print(f"  {text}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        exported = pipeline.export(STUDENT, Path(folder, "bundle"), changes={}, progress=tell)
    return entries(exported.seconds, name=exported.bundle.manifest.name)


def entries(seconds: Mapping[str, float], *, name: str) -> list[Entry]:
    """Return the whole time and, for information too, each step's."""
    how = f"{name}: every way of quantizing that was tried, comparing and timing included; {machine()}"
    whole = at_most("conversion_s", sum(seconds.values()), bound=None, unit="s", how=how)
    steps = [at_most(f"conversion_s {step}", took, bound=None, unit="s", how=f"one step of {name}") for step, took in seconds.items()]
    return [whole, *steps]
