"""What is read of a machine: made-up kernel files of a Pi, a laptop and a bare container."""

from __future__ import annotations

from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from edgedistill.runtime import conditions
from edgedistill.runtime.conditions import environment, int8_instructions

PI5 = "processor\t: 0\nFeatures\t: fp asimd aes crc32 fphp asimdhp asimdrdm asimddp\nModel\t\t: Raspberry Pi 5\n"
PI4 = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\nModel\t: Raspberry Pi 4 Model B Rev 1.4\n"
LAPTOP = "model name\t: Some CPU @ 2 GHz\nflags\t\t: fpu avx2 avx_vnni avx512_vnni\n"
SERVER = "model name : Other\nflags : fpu avx2 amx_int8 avx512_vnnix\n"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


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
