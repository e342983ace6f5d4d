"""What is read of a machine: made-up kernel files of a Pi, a laptop and a bare container."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from tree import write

from edgedistill.runtime import conditions, firmware
from edgedistill.runtime.conditions import Watch, environment, int8_instructions, throttle_warning
from edgedistill.runtime.status import Machine

PI5 = "processor\t: 0\nFeatures\t: fp asimd aes crc32 fphp asimdhp asimdrdm asimddp\nModel\t\t: Raspberry Pi 5\n"
PI4 = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\nModel\t: Raspberry Pi 4 Model B Rev 1.4\n"
LAPTOP = "model name\t: Some CPU @ 2 GHz\nflags\t\t: fpu avx2 avx_vnni avx512_vnni\n"
SERVER = "model name : Other\nflags : fpu avx2 amx_int8 avx512_vnnix\n"


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (PI5, ["NEON dotprod"]),
        (PI4, []),
        (LAPTOP, ["AVX-VNNI", "AVX512-VNNI"]),
        (SERVER, ["AMX-INT8"]),
        ("Features : asimddp i8mm", ["NEON dotprod", "NEON i8mm"]),
        ("", []),
    ],
)
def test_int8_instructions(cpuinfo: str, expected: list[str]) -> None:
    assert int8_instructions(cpuinfo) == expected


def test_a_raspberry_pi(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/cpuinfo": PI5,
            "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
            "sys/class/thermal/thermal_zone0/temp": "51234\n",
            "sys/class/thermal/thermal_zone1/temp": "63500\n",
            "sys/class/thermal/thermal_zone2/temp": "unreadable\n",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
            "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        },
    )
    found = environment(root)
    assert found["cpu"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert found["int8"] == ["NEON dotprod"]
    assert found["governor"] == "ondemand"
    assert found["temperature_c"] == 63.5
    assert found["throttled"] == ["under-voltage now", "throttled now", "under-voltage since start", "throttled since start"]
    assert found["os"] == "Debian GNU/Linux 12 (bookworm)"


@pytest.mark.parametrize(("text", "expected"), [("0", []), ("0x1", ["under-voltage now"]), ("nonsense", None), ("", None)])
def test_throttling(tmp_path: Path, text: str, expected: list[str] | None) -> None:
    root = write(tmp_path, {"sys/devices/platform/soc/soc:firmware/get_throttled": text})
    assert environment(root)["throttled"] == expected


def test_a_container_that_shows_nothing(tmp_path: Path) -> None:
    found = environment(tmp_path)
    assert (found["int8"], found["governor"], found["temperature_c"], found["throttled"]) == ([], None, None, None)
    assert found["cpu"]
    assert found["os"]


@pytest.mark.parametrize(("cpuinfo", "cpu"), [(LAPTOP, "Some CPU @ 2 GHz"), (PI4, "Raspberry Pi 4 Model B Rev 1.4")])
def test_the_processors_name(tmp_path: Path, cpuinfo: str, cpu: str) -> None:
    assert environment(write(tmp_path, {"proc/cpuinfo": cpuinfo}))["cpu"] == cpu


def test_this_machine_has_cores_and_versions_and_is_json() -> None:
    found = environment()
    assert found["cores"] >= 1
    assert found["machine"]
    versions = found["versions"]
    assert (versions["numpy"], versions["opencv"]) == (np.__version__, cv2.__version__)
    assert {"edgedistill", "python", "litert", "onnxruntime"} <= set(versions)
    assert msgspec.json.decode(msgspec.json.encode(found)) == found


def test_versions_of_interpreters_that_are_missing_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "installed_engines", dict)
    assert set(conditions.versions()) == {"edgedistill", "python", "numpy", "opencv"}


def seen(watch: Watch, wanted: Callable[[Machine], bool]) -> Machine:
    """Wait until the watch has seen a machine like that."""
    until_s = time.monotonic() + 20
    while not wanted(watch.machine()):
        assert time.monotonic() < until_s, watch.machine()
        time.sleep(0.005)
    return watch.machine()


def test_the_watch_sees_what_changes(tmp_path: Path) -> None:
    flags = "sys/devices/platform/soc/soc:firmware/get_throttled"
    write(tmp_path, {"sys/class/thermal/thermal_zone0/temp": "50000", flags: "0"})
    watch = Watch(0.01, tmp_path)
    assert watch.machine() == Machine(None, None, None)
    with watch:
        first = seen(watch, lambda machine: machine.temperature_c is not None)
        assert (first.temperature_c, first.throttled) == (50.0, [])
        assert first.rss_mb is not None
        assert first.rss_mb > 10
        write(tmp_path, {"sys/class/thermal/thermal_zone0/temp": "81500", flags: "4"})
        seen(watch, lambda machine: machine[:2] == (81.5, ["throttled now"]))


def test_what_came_and_went_during_a_run_is_warned_of(tmp_path: Path) -> None:
    flags, heat = "sys/devices/platform/soc/soc:firmware/get_throttled", "sys/class/thermal/thermal_zone0/temp"
    write(tmp_path, {heat: "50000", flags: "80000"})
    with Watch(0.01, tmp_path) as watch:
        assert watch.warning() is None
        seen(watch, lambda machine: machine.throttled == ["soft temperature limit since start"])
        assert watch.warning() is None, "that was before the run"
        write(tmp_path, {heat: "84000", flags: "80002"})
        seen(watch, lambda machine: machine[:2] == (84.0, ["frequency capped now", "soft temperature limit since start"]))
        write(tmp_path, {heat: "55000", flags: "a0000"})
        seen(watch, lambda machine: machine.temperature_c == 55.0 and machine.throttled is not None and len(machine.throttled) == 2)
    warning = watch.warning()
    assert warning is not None
    assert "(frequency capped now, frequency capped since start, 84 degrees)" in warning


def test_the_watch_ends_at_once_and_may_be_closed_before_it_began() -> None:
    Watch().close()
    watch = Watch(every_s=3600)
    watch.start()
    assert [thread.daemon for thread in threading.enumerate() if thread.name == "machine watch"] == [True]
    seen(watch, lambda machine: machine.rss_mb is not None)
    watch.close()
    assert "machine watch" not in [thread.name for thread in threading.enumerate()]


def test_firmware_that_hangs_holds_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firmware, "TIMEOUT_S", 0.3)
    write(tmp_path, {"usr/bin/vcgencmd": "#!/bin/sh\nexec sleep 20\n"})
    (tmp_path / "usr/bin/vcgencmd").chmod(0o755)
    began_s = time.monotonic()
    with Watch(0.01, tmp_path) as watch:
        assert watch.machine() == Machine(None, None, None)
    assert time.monotonic() - began_s < 10


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ((50.0, []), (60.0, []), None),
        ((None, None), (None, None), None),
        ((50.0, ["throttled since start"]), (60.0, ["throttled since start"]), None),
        ((50.0, []), (60.0, ["throttled since start"]), "throttled since start"),
        ((50.0, ["under-voltage now"]), (60.0, []), "under-voltage now"),
        ((50.0, []), (60.0, ["frequency capped now", "soft temperature limit now"]), "frequency capped now, soft temperature limit now"),
        ((None, None), (60.0, ["throttled since start"]), None),
        ((None, None), (60.0, ["throttled now", "throttled since start"]), "throttled now"),
        ((79.9, None), (50.0, None), None),
        ((50.0, None), (80.4, None), "80 degrees"),
        ((85.0, ["throttled now"]), (None, None), "throttled now, 85 degrees"),
    ],
)
def test_figures_of_a_throttled_board_are_warned_of(
    before: tuple[float | None, list[str] | None], after: tuple[float | None, list[str] | None], reason: str | None
) -> None:
    found = throttle_warning(Machine(*before, rss_mb=None), Machine(*after, rss_mb=None))
    assert (found is None) == (reason is None)
    assert reason is None or f"({reason})" in (found or "")
