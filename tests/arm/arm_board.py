"""What a Raspberry Pi 4 says of itself in /proc and /sys, as files that the emulated programs find in the place of the host's.

numpy, XNNPACK and onnxruntime choose their kernels by these files. With the host's own, which tell of an x86 processor, onnxruntime ends
at its import and LiteRT at the first inference; with those of a newer board, they choose instructions that this one does not have.
"""

from __future__ import annotations

from pathlib import Path

#: The processor that qemu shows; the files below must tell of the same one.
CPU = "cortex-a72"
MODEL = "Raspberry Pi 4 Model B Rev 1.4"
CORES = 4
CLOCKS_KHZ = {"cpuinfo_min_freq": 600_000, "cpuinfo_max_freq": 1_800_000}
CORE = """\
processor\t: {number}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""
TEMPERATURE = "45000"


def board_files() -> dict[str, str]:
    """Return path and text of each file, paths relative to the root of the file system."""
    cores, cpus = f"0-{CORES - 1}", "sys/devices/system/cpu"
    files = {
        "proc/cpuinfo": "".join(CORE.format(number=number) for number in range(CORES)) + f"Model\t\t: {MODEL}\n",
        "proc/device-tree/model": f"{MODEL}\0",
        "sys/class/thermal/thermal_zone0/temp": TEMPERATURE,
        f"{cpus}/kernel_max": "255",
    }
    files |= {f"{cpus}/{name}": cores for name in ("possible", "present", "online")}
    for number in range(CORES):
        files |= {f"{cpus}/cpu{number}/{path}": text for path, text in core_files(number, cores).items()}
    return files


def core_files(number: int, cores: str) -> dict[str, str]:
    """Return the files of one core: all four are alike and share everything but themselves."""
    files = {f"cpufreq/{name}": str(khz) for name, khz in CLOCKS_KHZ.items()}
    files |= {"topology/physical_package_id": "0", "topology/core_id": str(number), "topology/thread_siblings_list": str(number)}
    return files | {f"topology/{name}": cores for name in ("core_siblings_list", "cluster_cpus_list", "package_cpus_list")}


def write_board(folder: Path) -> None:
    """Write the files below a folder."""
    for name, text in board_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if text.endswith(("\n", "\0")) else f"{text}\n")
