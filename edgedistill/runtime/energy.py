"""What an inference costs in joules, where the machine tells; elsewhere it says that it cannot be measured here.

Three kinds of machines tell: those with Intel's and AMD's counters (RAPL), a Raspberry Pi 5 (its power chip), and any machine with a
meter in its supply that something writes to a file. What the machine draws while it does nothing is measured first and taken off.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from edgedistill.errors import DataError
from edgedistill.runtime.firmware import ask, read_number, read_text
from edgedistill.runtime.frames import leave_signals_to_main

NOT_HERE = "not measurable here"
#: How often watts are read where no counter sums them up.
EVERY_S = 0.2
#: A file with watts that is older than this has been given up by whatever wrote it.
STALE_S = 10.0


class Meter(Protocol):
    """Sums up the energy between `begin` and `end`; `covers` says of what."""

    name: str
    covers: str

    def begin(self) -> None:
        """Begin to count."""

    def end(self) -> float:
        """Return the joules since `begin`; DataError if the meter has said nothing."""


class Energy(NamedTuple):
    """What was measured; joules are those of one frame from preprocessing to answer.

    Args:
        idle_w: watts while nothing ran.
        busy_w: watts while frames were classified one after the other.
        joules: of a frame, without what the machine would have drawn anyway.
        joules_with_idle: of a frame, all that was drawn meanwhile.
        frames: how many were classified.
    """

    meter: str
    covers: str
    idle_w: float
    busy_w: float
    joules: float
    joules_with_idle: float
    frames: int


class EnergyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How long the idle machine is measured, and then the working one; a file with the watts of a meter, if there is one."""

    idle_s: float = 2.0
    busy_s: float = 3.0
    power_file: Path | None = None


DEFAULTS = EnergyOptions()


def find_meter(power_file: Path | None = None, root: Path = Path("/")) -> Meter | None:
    """Return what measures energy here: the file if one is given, else the counters, else the power chip; None without any."""
    if power_file is not None:
        return Sampled("file", f"whatever {power_file.name} measures", lambda: watts_of_file(power_file))
    rapl = Rapl(root)
    if rapl.readable:
        return rapl
    if watts_of_pmic(root) is not None:
        covers = "the rails behind the power chip; not what it loses itself, nor what hangs on the 5 V pins and USB"
        return Sampled("Raspberry Pi PMIC", covers, lambda: watts_of_pmic(root))
    return None


def check(options: EnergyOptions) -> None:
    """Raise DataError for a file that tells no watts, before anything is measured."""
    if options.power_file is not None and watts_of_file(options.power_file) is None:
        raise DataError(
            f"{options.power_file} tells no watts: expected a file that holds a number, and that a meter's program wrote within the last "
            f"{STALE_S:g} s; start that program, or leave --power-file out"
        )


def measure(
    meter: Meter,
    work: Callable[[], object],
    options: EnergyOptions = DEFAULTS,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Energy:
    """Measure the idle machine and then the working one.

    Args:
        work: classifies one frame.
        clock: seconds.
    """
    began_s = clock()
    meter.begin()
    sleep(options.idle_s)
    idle_s = clock() - began_s
    idle_w = meter.end() / max(idle_s, 1e-9)
    began_s, frames = clock(), 0
    meter.begin()
    while frames == 0 or clock() - began_s < options.busy_s:
        work()
        frames += 1
    busy_s = clock() - began_s
    joules = meter.end()
    net = (joules - idle_w * busy_s) / frames
    return Energy(meter.name, meter.covers, idle_w, joules / max(busy_s, 1e-9), net, joules / frames, frames)


def as_text(energy: Energy | None) -> str:
    """Return the energy as a line to read."""
    if energy is None:
        return f"energy: {NOT_HERE}"
    return (
        f"energy: {energy.joules * 1e3:.2f} mJ a frame beyond idling ({energy.joules_with_idle * 1e3:.2f} mJ with it); "
        f"{energy.busy_w:.2f} W, idle {energy.idle_w:.2f} W; by {energy.meter}: {energy.covers}"
    )


class Rapl:
    """The counters of the processor's packages, in microjoules; they begin anew at their own limit."""

    name = "RAPL"
    covers = "the processor's packages; not memory, disk and screen"

    def __init__(self, root: Path = Path("/")) -> None:
        # the zones of a package's parts are named after it with one more number, and are in it already
        zones = sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
        packages = [zone for zone in zones if zone.name.count(":") == 1 and (read_text(zone / "name") or "").startswith("package")]
        self._zones = [(zone / "energy_uj", read_number(zone / "max_energy_range_uj")) for zone in packages]
        self._begin_uj: list[int] = []

    @property
    def readable(self) -> bool:
        """Whether there are counters, and this user may read them: since 2020 often only root may."""
        return bool(self._zones) and all(read_number(counter) is not None for counter, _ in self._zones)

    def begin(self) -> None:
        self._begin_uj = self._read()

    def end(self) -> float:
        return sum(self._spent_uj(*pair) for pair in zip(self._begin_uj, self._read(), self._zones, strict=True)) / 1e6

    def _read(self) -> list[int]:
        readings = [read_number(counter) for counter, _ in self._zones]
        if None in readings:
            raise DataError(f"{self._zones[readings.index(None)][0]} cannot be read any more; run as root, or leave energy out")
        return [reading for reading in readings if reading is not None]

    @staticmethod
    def _spent_uj(before_uj: int, after_uj: int, zone: tuple[Path, int | None]) -> int:
        spent_uj = after_uj - before_uj
        return spent_uj if spent_uj >= 0 else spent_uj + (zone[1] or 0)


class Sampled:
    """Watts that are read again and again in a thread of its own, and summed up over the time.

    Args:
        watts: returns what is drawn now; None where it cannot be told.
    """

    def __init__(self, name: str, covers: str, watts: Callable[[], float | None], *, every_s: float = EVERY_S) -> None:
        self.name, self.covers = name, covers
        self._watts, self._every_s = watts, every_s
        self._samples: list[tuple[float, float]] = []
        self._began_s = 0.0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        self._samples, self._over, self._began_s = [], threading.Event(), time.monotonic()
        self._thread = threading.Thread(target=self._run, args=(self._samples, self._over), name="power meter", daemon=True)
        self._thread.start()

    def end(self) -> float:
        now_s = time.monotonic()
        self._over.set()
        if self._thread is not None:
            self._thread.join(1.0)
        if not self._samples:
            raise DataError(f"the meter ({self.name}) told no watts; check that it is on and updated, or leave energy out")
        return integrate([(max(at_s, self._began_s), watts) for at_s, watts in self._samples if at_s <= now_s], self._began_s, now_s)

    def _run(self, samples: list[tuple[float, float]], over: threading.Event) -> None:
        leave_signals_to_main()
        while not over.is_set():
            at_s, watts = time.monotonic(), self._watts()
            if watts is not None:
                samples.append((at_s, watts))
            over.wait(self._every_s)


def integrate(samples: list[tuple[float, float]], begin_s: float, end_s: float) -> float:
    """Return the joules of watts told at certain times: straight lines between them, level before the first and after the last."""
    points = [(begin_s, samples[0][1]), *samples, (end_s, samples[-1][1])]
    return sum((b_s - a_s) * (a_w + b_w) / 2 for (a_s, a_w), (b_s, b_w) in pairwise(points))


def watts_of_pmic(root: Path) -> float | None:
    """Return what a Raspberry Pi 5's power chip tells of its rails, volts times amperes; None on all other boards."""
    readings = re.findall(r"(\w+)_([AV])(?:\s+\w+\(\d+\))?=([\d.]+)[AV]\b", ask(root, "pmic_read_adc") or "")
    rails: dict[str, dict[str, float]] = {}
    for rail, unit, value in readings:
        rails.setdefault(rail, {})[unit] = float(value)
    powers = [rail["A"] * rail["V"] for rail in rails.values() if len(rail) == 2]
    return sum(powers) if powers else None


def watts_of_file(path: Path) -> float | None:
    """Return the first number in a file that a meter's program keeps up to date; None while there is none, or it has grown old."""
    try:
        old_s = time.time() - path.stat().st_mtime
    except OSError:
        return None
    found = re.search(r"\d+(?:\.\d+)?", read_text(path) or "")
    return float(found[0]) if found and old_s < STALE_S else None
