"""Joules of made-up counters, power chips and meters; idling is taken off; who cannot measure says so."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from tree import write

from edgedistill.errors import DataError
from edgedistill.runtime import energy
from edgedistill.runtime.energy import EnergyOptions, Rapl, Sampled, as_text, find_meter, integrate, measure, watts_of_file, watts_of_pmic

POWERCAP = "sys/class/powercap"
ADC = """    3V7_WL_SW_A current(0)=0.10000000A
    VDD_CORE_A current(7)=2.00000000A
    3V7_WL_SW_V volt(8)=3.70000000V
    VDD_CORE_V volt(15)=0.90000000V
    EXT5V_V volt(24)=5.10000000V
    BATT_V volt(25)=0.00000000V"""


def zone(name: str, label: str, energy_uj: int, *, limit_uj: int = 1_000_000) -> dict[str, str]:
    folder = f"{POWERCAP}/{name}"
    return {f"{folder}/name": f"{label}\n", f"{folder}/energy_uj": f"{energy_uj}\n", f"{folder}/max_energy_range_uj": f"{limit_uj}\n"}


def vcgencmd(root: Path, answer: str) -> Path:
    write(root, {"usr/bin/vcgencmd": f"#!/bin/sh\ntest $1 = pmic_read_adc && cat <<X\n{answer}\nX\n"})
    (root / "usr/bin/vcgencmd").chmod(0o755)
    return root


def test_counters_of_all_packages_are_summed_and_their_parts_left_out(tmp_path: Path) -> None:
    write(tmp_path, zone("intel-rapl:0", "package-0", 100) | zone("intel-rapl:1", "package-1", 500))
    write(tmp_path, zone("intel-rapl:0:0", "core", 1) | zone("intel-rapl:2", "psys", 1) | zone("intel-rapl-mmio:0", "package-0", 1))
    meter = find_meter(root=tmp_path)
    assert isinstance(meter, Rapl)
    meter.begin()
    write(tmp_path, zone("intel-rapl:0", "package-0", 300_100) | zone("intel-rapl:1", "package-1", 700_500))
    write(tmp_path, zone("intel-rapl:0:0", "core", 999) | zone("intel-rapl:2", "psys", 999) | zone("intel-rapl-mmio:0", "package-0", 999))
    assert meter.end() == pytest.approx(1.0)


def test_a_counter_that_begins_anew(tmp_path: Path) -> None:
    meter = Rapl(write(tmp_path, zone("intel-rapl:0", "package-0", 900_000, limit_uj=1_000_000)))
    meter.begin()
    write(tmp_path, zone("intel-rapl:0", "package-0", 200_000))
    assert meter.end() == pytest.approx(0.3)


def test_counters_that_only_root_may_read_are_no_meter(tmp_path: Path) -> None:
    write(tmp_path, zone("intel-rapl:0", "package-0", 5))
    (tmp_path / POWERCAP / "intel-rapl:0/energy_uj").unlink()
    assert not Rapl(tmp_path).readable
    assert find_meter(root=tmp_path) is None


def test_a_counter_that_goes_away_says_so(tmp_path: Path) -> None:
    meter = Rapl(write(tmp_path, zone("intel-rapl:0", "package-0", 5)))
    meter.begin()
    (tmp_path / POWERCAP / "intel-rapl:0/energy_uj").unlink()
    with pytest.raises(DataError, match="cannot be read any more"):
        meter.end()


@pytest.mark.parametrize(
    ("answer", "watts"),
    [
        (ADC, 0.37 + 1.8),
        ("VDD_CORE_V=0.5000V\nVDD_CORE_A=1.5000A", 0.75),
        ("VDD_CORE_A current(7)=2.0A", None),
        ("error=1 error_msg='Command not registered'", None),
        ("", None),
    ],
)
def test_a_raspberry_pi_5s_rails(tmp_path: Path, answer: str, watts: float | None) -> None:
    assert watts_of_pmic(vcgencmd(tmp_path, answer)) == (None if watts is None else pytest.approx(watts))
    meter = find_meter(root=tmp_path)
    assert (meter is None) == (watts is None)
    assert meter is None or meter.name == "Raspberry Pi PMIC"


@pytest.mark.parametrize(("content", "watts"), [("5.25\n", 5.25), ("3", 3.0), ("power: 4.5 W", 4.5), ("", None), ("n/a", None)])
def test_a_meters_file(tmp_path: Path, content: str, watts: float | None) -> None:
    (tmp_path / "watts").write_text(content)
    assert watts_of_file(tmp_path / "watts") == watts


def test_a_file_that_is_not_kept_up_to_date_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "watts").write_text("5")
    long_ago_s = time.time() - energy.STALE_S - 5
    os.utime(tmp_path / "watts", (long_ago_s, long_ago_s))
    assert watts_of_file(tmp_path / "watts") is None
    assert watts_of_file(tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("samples", "joules"),
    [([(0.0, 3.0)], 30.0), ([(5.0, 3.0)], 30.0), ([(0.0, 0.0), (10.0, 6.0)], 30.0), ([(2.0, 1.0), (4.0, 3.0)], 2 + 4 + 18)],
)
def test_watts_over_time_are_joules(samples: list[tuple[float, float]], joules: float) -> None:
    assert integrate(samples, 0.0, 10.0) == pytest.approx(joules)


def test_sampled_watts_are_joules_over_the_time_that_passed() -> None:
    seen = threading.Event()

    def watts() -> float:
        seen.set()
        return 4.0

    meter = Sampled("x", "y", watts, every_s=0.001)
    for _ in range(2):
        began_s = time.monotonic()
        meter.begin()
        assert seen.wait(20)
        time.sleep(0.01)
        joules = meter.end()
        assert 0.04 <= joules <= 4.0 * (time.monotonic() - began_s) + 0.01
    assert "power meter" not in [thread.name for thread in threading.enumerate()]


def test_a_meter_that_says_nothing_is_an_error() -> None:
    meter = Sampled("file", "y", lambda: None, every_s=0.001)
    meter.begin()
    with pytest.raises(DataError, match=r"the meter \(file\) told no watts"):
        meter.end()


class Machine:
    """A clock, a meter and work that belong together: 2 W at idle, and each frame takes 0.1 s and 0.3 J more."""

    name, covers = "made up", "all of it"

    def __init__(self) -> None:
        self.now_s = self.joules = self.began_j = 0.0

    def pass_by(self, seconds: float) -> None:
        self.now_s += seconds
        self.joules += 2.0 * seconds

    def work(self) -> None:
        self.pass_by(0.1)
        self.joules += 0.3

    def begin(self) -> None:
        self.began_j = self.joules

    def end(self) -> float:
        return self.joules - self.began_j


@pytest.mark.parametrize(("busy_s", "frames"), [(1.0, 10), (0.0, 1)])
def test_idling_is_taken_off_and_told_apart(busy_s: float, frames: int) -> None:
    machine = Machine()
    options = EnergyOptions(idle_s=4.0, busy_s=busy_s - 0.01)
    found = measure(machine, machine.work, options, clock=lambda: machine.now_s, sleep=machine.pass_by)
    assert found[:2] == ("made up", "all of it")
    assert found[2:6] == pytest.approx((2.0, 5.0, 0.3, 0.5))
    assert found.frames == frames


def test_the_line_to_read() -> None:
    assert as_text(None) == "energy: not measurable here"
    text = as_text(energy.Energy("RAPL", "the packages", 2.0, 5.0, 0.0123, 0.05, 10))
    assert text == "energy: 12.30 mJ a frame beyond idling (50.00 mJ with it); 5.00 W, idle 2.00 W; by RAPL: the packages"


def test_a_given_file_goes_before_counters(tmp_path: Path) -> None:
    write(tmp_path, zone("intel-rapl:0", "package-0", 5) | {"watts": "7"})
    meter = find_meter(tmp_path / "watts", tmp_path)
    assert meter is not None
    assert meter.name == "file"


def test_a_machine_without_any_meter(tmp_path: Path) -> None:
    assert find_meter(root=tmp_path) is None
