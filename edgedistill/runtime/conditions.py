"""Under which conditions a figure was taken, and what this machine has: read from the kernel, nothing is started or opened."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgedistill import __version__
from edgedistill.runtime.engines import installed_engines, usable_cores

#: int8 dot-product instructions by the flag the kernel shows; without any, int8 networks are often no faster than fp32.
INT8_FLAGS = {
    "asimddp": "NEON dotprod",
    "i8mm": "NEON i8mm",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX512-VNNI",
    "amx_int8": "AMX-INT8",
}
#: Bits of the Raspberry Pi firmware's get_throttled.
THROTTLED_BITS = {
    0: "under-voltage now",
    1: "frequency capped now",
    2: "throttled now",
    3: "soft temperature limit now",
    16: "under-voltage since start",
    17: "frequency capped since start",
    18: "throttled since start",
    19: "soft temperature limit since start",
}


def environment(root: Path = Path("/")) -> dict[str, Any]:
    """Return CPU, int8 instructions, governor, temperature, throttling and versions; None for what cannot be read.

    Args:
        root: where /proc and /sys are.
    """
    cpuinfo = _read(root / "proc/cpuinfo") or ""
    return {
        "cpu": cpu_model(root, cpuinfo),
        "machine": platform.machine(),
        "cores": usable_cores(),
        "int8": int8_instructions(cpuinfo),
        "governor": _read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "temperature_c": temperature_c(root),
        "throttled": throttled(root),
        "os": os_name(root),
        "versions": versions(),
    }


def cpu_model(root: Path, cpuinfo: str) -> str:
    """Return the board's name (Raspberry Pi and others with a device tree) or the processor's."""
    board = _read(root / "proc/device-tree/model")
    if board:
        return board.strip("\0 ")
    found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or "unknown"


def int8_instructions(cpuinfo: str) -> list[str]:
    """Return the int8 dot-product instructions of the CPU by name, [] for none."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    flags = set(found[1].split()) if found else set()
    return [name for flag, name in INT8_FLAGS.items() if flag in flags]


def temperature_c(root: Path) -> float | None:
    """Return the hottest thermal zone in degrees Celsius."""
    readings = (_read(path) for path in (root / "sys/class/thermal").glob("thermal_zone*/temp"))
    degrees = [int(text) / 1000 for text in readings if text and text.lstrip("-").isdigit()]
    return max(degrees, default=None)


def throttled(root: Path) -> list[str] | None:
    """Return what a Raspberry Pi's firmware says of under-voltage and throttling, [] if all is well, None elsewhere."""
    text = _read(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    try:
        bits = int(text, 16) if text else None
    except ValueError:
        return None
    return None if bits is None else [meaning for bit, meaning in THROTTLED_BITS.items() if bits >> bit & 1]


def os_name(root: Path) -> str:
    """Return the distribution's name, or the system's."""
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)', _read(root / "etc/os-release") or "", re.MULTILINE)
    return found[1] if found else platform.platform(terse=True)


def versions() -> dict[str, str]:
    """Return the versions of edgedistill, Python, numpy, OpenCV and the installed interpreters."""
    found = {"edgedistill": __version__, "python": platform.python_version()}
    return found | {"numpy": np.__version__, "opencv": cv2.__version__} | installed_engines()


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None
