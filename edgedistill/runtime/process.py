"""What this process has cost so far: its age and its memory, told by the kernel."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

_IMPORTED_S = time.monotonic()


def age_s(stat: Path = Path("/proc/self/stat")) -> float:
    """Return the seconds since the process was started (resolution 10 ms); where /proc is missing, since this module was imported."""
    try:
        fields = stat.read_text().rpartition(")")[2].split()
        started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return time.monotonic() - _IMPORTED_S
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s


def peak_rss_mb(status: Path = Path("/proc/self/status")) -> float:
    """Return the peak of the resident memory in MB (10^6 bytes).

    The kernel's VmHWM counts this program only; `ru_maxrss`, the fallback, may still hold the peak of the program that started it.
    """
    peak_mb = _status_mb(status, "VmHWM")
    if peak_mb is not None:
        return peak_mb
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def rss_mb(status: Path = Path("/proc/self/status")) -> float | None:
    """Return the resident memory, now, in MB (10^6 bytes); None where the kernel does not tell."""
    return _status_mb(status, "VmRSS")


def _status_mb(status: Path, key: str) -> float | None:
    try:
        found = re.search(rf"^{key}:\s+(\d+) kB", status.read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else int(found[1]) * 1024 / 1e6
