"""What this machine computes with: a measured latency is a statement about its instructions and no others."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import NamedTuple

from edgedistill.runtime.conditions import cpu_model, int8_instructions

#: Vector instructions by the flag the kernel shows, the best one first.
VECTOR_FLAGS = {"avx512f": "AVX-512", "avx2": "AVX2", "sse4_1": "SSE4.1", "asimd": "NEON", "neon": "32-bit NEON"}
#: What int8 dot products are called on an architecture.
DOT_PRODUCTS = {"x86_64": "VNNI", "aarch64": "dotprod"}


class Machine(NamedTuple):
    """A CPU; `int8` are its int8 dot-product instructions by name, none for ()."""

    cpu: str
    architecture: str
    vector: str
    int8: tuple[str, ...]

    @property
    def instructions(self) -> str:
        """Return the instruction set that a verdict from this machine is about."""
        if self.int8:
            return f"{self.vector} with {', '.join(self.int8)}"
        return f"{self.vector} without int8 dot products (no {DOT_PRODUCTS.get(self.architecture, 'dotprod')})"

    def __str__(self) -> str:
        return f"{self.cpu}, {self.instructions}"


def this_machine(root: Path = Path("/")) -> Machine:
    """Return what /proc/cpuinfo says of this machine.

    Args:
        root: where /proc is.
    """
    try:
        cpuinfo = (root / "proc/cpuinfo").read_text(errors="replace")
    except OSError:
        cpuinfo = ""
    architecture = {"arm64": "aarch64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
    return Machine(cpu_model(root, cpuinfo), architecture, vector_instructions(cpuinfo), tuple(int8_instructions(cpuinfo)))


def vector_instructions(cpuinfo: str) -> str:
    """Return the widest vector instructions of the CPU by name."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    flags = set(found[1].split()) if found else set()
    return next((name for flag, name in VECTOR_FLAGS.items() if flag in flags), "unknown vector instructions")
