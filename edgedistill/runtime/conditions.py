"""Under which conditions a figure was taken, what this machine has, and how it fares while it works: read from the kernel and firmware."""

from __future__ import annotations

import itertools
import platform
import re
import threading
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np

from edgedistill import __version__
from edgedistill.runtime import process
from edgedistill.runtime.engines import installed_engines, usable_cores
from edgedistill.runtime.firmware import read_number, read_text, throttled
from edgedistill.runtime.frames import leave_signals_to_main
from edgedistill.runtime.status import Machine

#: int8 dot-product instructions by the flag the kernel shows; without any, int8 networks are often no faster than fp32.
INT8_FLAGS = {
    "asimddp": "NEON dotprod",
    "i8mm": "NEON i8mm",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX512-VNNI",
    "amx_int8": "AMX-INT8",
}
#: Above it boards slow down, or are about to.
HOT_C = 80.0
#: How often `Watch` looks.
EVERY_S = 5.0


def environment(root: Path = Path("/")) -> dict[str, Any]:
    """Return CPU, int8 instructions, governor, temperature, throttling and versions; None for what cannot be read.

    Args:
        root: where /proc and /sys are.
    """
    cpuinfo = read_text(root / "proc/cpuinfo") or ""
    return {
        "cpu": cpu_model(root, cpuinfo),
        "machine": platform.machine(),
        "cores": usable_cores(),
        "int8": int8_instructions(cpuinfo),
        "governor": read_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "temperature_c": temperature_c(root),
        "throttled": throttled(root),
        "os": os_name(root),
        "versions": versions(),
    }


def cpu_model(root: Path, cpuinfo: str) -> str:
    """Return the board's name (Raspberry Pi and others with a device tree) or the processor's."""
    board = read_text(root / "proc/device-tree/model")
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
    readings = (read_number(path) for path in (root / "sys/class/thermal").glob("thermal_zone*/temp"))
    return max((reading / 1000 for reading in readings if reading is not None), default=None)


def os_name(root: Path) -> str:
    """Return the distribution's name, or the system's."""
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)', read_text(root / "etc/os-release") or "", re.MULTILINE)
    return found[1] if found else platform.platform(terse=True)


def versions() -> dict[str, str]:
    """Return the versions of edgedistill, Python, numpy, OpenCV and the installed interpreters."""
    found = {"edgedistill": __version__, "python": platform.python_version()}
    return found | {"numpy": np.__version__, "opencv": cv2.__version__} | installed_engines()


def machine_now(root: Path = Path("/")) -> Machine:
    """Return temperature, throttling and this process's memory; may take as long as the firmware takes to answer."""
    return Machine(temperature_c(root), throttled(root), process.rss_mb())


class Watch:
    """Looks at the machine every few seconds in a thread of its own; a context manager.

    Args:
        every_s: how often.
        root: where /sys and the firmware's program are.
    """

    def __init__(self, every_s: float = EVERY_S, root: Path = Path("/")) -> None:
        self._every_s, self._root = every_s, root
        self._machine = Machine(None, None, None)
        self._first: Machine | None = None
        self._worst = self._machine
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="machine watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def machine(self) -> Machine:
        """Return what was seen last, at once; all of it None before the first look."""
        return self._machine

    def warning(self) -> str | None:
        """Return why figures that were taken since the beginning are too low, from all looks; None if nothing speaks against them."""
        return None if self._first is None else throttle_warning(self._first, self._worst)

    def close(self) -> None:
        """End the thread; one that waits for the firmware ends with its answer."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(0.5)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(self) -> None:
        leave_signals_to_main()
        while not self._over.is_set():
            self._machine = machine_now(self._root)
            self._first = self._first or self._machine
            self._worst = worst(self._worst, self._machine)
            self._over.wait(self._every_s)


def worst(one: Machine, other: Machine) -> Machine:
    """Return the higher temperature and memory of two looks, and all that either says of throttling."""
    temperatures_c = [machine.temperature_c for machine in (one, other) if machine.temperature_c is not None]
    memories_mb = [machine.rss_mb for machine in (one, other) if machine.rss_mb is not None]
    flags = [machine.throttled for machine in (one, other) if machine.throttled is not None]
    together = list(dict.fromkeys(itertools.chain.from_iterable(flags))) if flags else None
    return Machine(max(temperatures_c, default=None), together, max(memories_mb, default=None))


def throttle_warning(before: Machine, after: Machine) -> str | None:
    """Return why figures that were taken between two looks at the machine are too low; None if nothing speaks against them.

    A flag that holds since the board's start counts only where it appeared meanwhile, which a first look that saw nothing cannot tell.
    """
    new = set(after.throttled or ())
    old = new if before.throttled is None else set(before.throttled)
    flags = [flag for flag in sorted(old | new) if flag.endswith(" now") or flag not in old]
    hottest = max((machine.temperature_c for machine in (before, after) if machine.temperature_c is not None), default=0.0)
    reasons = flags + ([f"{hottest:.0f} degrees"] if hottest >= HOT_C else [])
    if not reasons:
        return None
    return (
        f"these figures were taken while the board could not run at full speed ({', '.join(reasons)}): cool it, or give it a better supply"
    )
