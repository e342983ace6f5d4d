"""What a board's firmware says of its power and heat: read from the kernel where it shows it, else asked for by `vcgencmd`."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

#: Where the kernel shows the Raspberry Pi firmware's flags; the boards' device trees differ in the folder.
THROTTLED_FILES = ("sys/devices/platform/soc*/*firmware/get_throttled", "sys/devices/platform/*firmware/get_throttled")
#: Where Raspberry Pi OS has the program that asks the firmware.
PROGRAMS = ("usr/bin/vcgencmd", "opt/vc/bin/vcgencmd")
#: How long the firmware may take to answer.
TIMEOUT_S = 1.0
CAPPED = "frequency capped now"
#: Bits of the Raspberry Pi firmware's get_throttled.
THROTTLED_BITS = {
    0: "under-voltage now",
    1: CAPPED,
    2: "throttled now",
    3: "soft temperature limit now",
    16: "under-voltage since start",
    17: "frequency capped since start",
    18: "throttled since start",
    19: "soft temperature limit since start",
}


def throttled(root: Path = Path("/")) -> list[str] | None:
    """Return what is said of under-voltage and throttling, [] if all is well, None where nothing is said.

    On a Raspberry Pi that is the firmware's flags; elsewhere whether the kernel keeps the processor below its highest frequency.
    """
    flags = _flags(root)
    if flags is not None:
        return flags
    highest, allowed = (
        read_number(root / f"sys/devices/system/cpu/cpu0/cpufreq/{name}") for name in ("cpuinfo_max_freq", "scaling_max_freq")
    )
    if highest is None or allowed is None:
        return None
    return [CAPPED] if allowed < highest else []


def _flags(root: Path) -> list[str] | None:
    """Return the meanings of the firmware's bits; None where there is no such firmware, or it answers nonsense."""
    files = (path for pattern in THROTTLED_FILES for path in root.glob(pattern))
    text = next(filter(None, map(read_text, files)), None) or ask(root, "get_throttled") or ""
    found = re.fullmatch(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]+)", text)
    return None if found is None else [meaning for bit, meaning in THROTTLED_BITS.items() if int(found[1], 16) >> bit & 1]


def ask(root: Path, *question: str) -> str | None:
    """Return what the firmware answers to `vcgencmd QUESTION`; None where there is no such program, or it fails. May take `TIMEOUT_S`."""
    program = next((path for path in (root / name for name in PROGRAMS) if path.is_file()), None)
    if program is None:
        return None
    try:
        done = subprocess.run(
            [str(program), *question], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
        )
    except (subprocess.SubprocessError, OSError, ValueError):
        return None
    return done.stdout.strip()


def read_text(path: Path) -> str | None:
    """Return what a file of the kernel says, without white space around it; None if it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def read_number(path: Path) -> int | None:
    """Return the whole number in a file of the kernel; None if there is none."""
    text = read_text(path)
    return int(text) if text and re.fullmatch(r"-?\d+", text) else None
