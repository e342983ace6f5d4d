"""Which instructions a machine has, from what kernels of known machines show."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from edgedistill.convert.audit.machine import Machine, this_machine, vector_instructions

EPYC = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu sse sse4_1 avx avx2 fma\n"
ICE_LAKE = "model name\t: Intel(R) Xeon(R) 8375C\nflags\t\t: fpu sse4_1 avx2 avx512f avx512_vnni\n"
ALDER_LAKE = "model name\t: i5-12400\nflags\t\t: sse4_1 avx2 avx_vnni\n"
PI_4 = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n"
PI_5 = "Features\t: fp asimd evtstrm aes asimdhp asimddp\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n"
PHONE = "Features\t: fp asimd asimddp i8mm bf16\nHardware\t: Qualcomm SM8550\n"
PI_32 = "Features\t: half thumb fastmult vfp edsp neon vfpv3\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n"


@pytest.mark.parametrize(
    ("cpuinfo", "architecture", "cpu", "instructions"),
    [
        (EPYC, "x86_64", "AMD EPYC", "AVX2 without int8 dot products (no VNNI)"),
        (ICE_LAKE, "x86_64", "Intel(R) Xeon(R) 8375C", "AVX-512 with AVX512-VNNI"),
        (ALDER_LAKE, "AMD64", "i5-12400", "AVX2 with AVX-VNNI"),
        (PI_4, "aarch64", "Raspberry Pi 4 Model B Rev 1.4", "NEON without int8 dot products (no dotprod)"),
        (PI_5, "aarch64", "Raspberry Pi 5 Model B Rev 1.0", "NEON with NEON dotprod"),
        (PHONE, "arm64", "Qualcomm SM8550", "NEON with NEON dotprod, NEON i8mm"),
        (PI_32, "armv7l", "Raspberry Pi 4 Model B Rev 1.4", "32-bit NEON without int8 dot products (no dotprod)"),
    ],
)
def test_known_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str, architecture: str, cpu: str, instructions: str
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(platform, "machine", lambda: architecture)
    found = this_machine(tmp_path)
    assert (found.cpu, found.instructions) == (cpu, instructions)
    assert str(found) == f"{cpu}, {instructions}"
    assert found.architecture in ("x86_64", "aarch64", "armv7l")


def test_a_machine_that_tells_nothing_is_said_to_be_unknown(tmp_path: Path) -> None:
    found = this_machine(tmp_path)
    assert found.int8 == ()
    assert found.vector == "unknown vector instructions"


def test_the_widest_vectors_count() -> None:
    assert vector_instructions("flags : avx2 sse4_1 avx512f") == "AVX-512"
    assert vector_instructions("flags : avx2x") == "unknown vector instructions"


def test_this_machine_has_an_architecture() -> None:
    assert this_machine().architecture
    assert isinstance(this_machine(), Machine)
