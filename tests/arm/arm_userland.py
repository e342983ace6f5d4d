"""A Debian arm64 userland in a folder, with its Python started by qemu's user emulation: no root, no binfmt, no chroot.

`bin/python3` of the userland is replaced by a script that starts the real one in qemu under the script's own name, so that everything that
starts Python by its path works as on a device: `python -m venv`, the scripts that pip writes, processes that a program starts.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

from arm_apt import AptRoot, check_host, debian_indexes, foreign_root, host_root, sources_of, unpack
from arm_board import CPU, board_files, write_board

PACKAGES = ("python3", "python3-venv", "libstdc++6", "libgomp1", "libatomic1")
#: Debian's release to the Python it brings.
SUITES = {"bookworm": "3.11", "trixie": "3.13"}
QEMU = "qemu-aarch64"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
#: Variables of the host's Python and environment that must not reach the emulated one.
UNWANTED = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LD_PRELOAD")
DONE = ".complete"


class Host(NamedTuple):
    """What the host brings: its apt with Debian's mirrors, its release, and qemu.

    Args:
        libraries: where qemu's own libraries lie if it was not installed; None if it was.
    """

    folder: Path
    apt: AptRoot
    release: str
    qemu: Path
    libraries: Path | None


class Userland(NamedTuple):
    """One release, ready to run.

    Args:
        folder: holds `root` (the userland with the board's /proc and /sys, where qemu looks first) and what is installed later.
        packages: how many Debian packages it is made of.
    """

    suite: str
    folder: Path
    host: Host
    packages: int

    @property
    def python(self) -> Path:
        """The script that starts the userland's Python."""
        return self.folder / "root" / "usr" / "bin" / f"python{SUITES[self.suite]}"


def prepare_host(work: Path) -> Host:
    """Find qemu on the host, or else download the host's own package of it; raises NotHere if neither can be."""
    release = check_host()
    folder = work / "host"
    apt = host_root(folder / "apt")
    installed = shutil.which(QEMU)
    if installed:
        return Host(folder, apt, release, Path(installed), None)
    unpacked = folder / "qemu"
    if not is_complete(unpacked, "qemu"):
        start_over(unpacked)
        unpack(apt, ["qemu-user"], into=unpacked)
        for program in unpacked.glob("usr/bin/qemu-*"):
            if program.name != QEMU:
                program.unlink()
        complete(unpacked, "qemu")
    return Host(folder, apt, release, unpacked / "usr/bin" / QEMU, unpacked / LIBRARIES)


def build(suite: str, host: Host, work: Path) -> Userland:
    """Return the userland of a release; build it if it is not there, or was left half built."""
    folder = work / suite
    key = f"{suite} {CPU} {' '.join(PACKAGES)} {hash_of_board()}"
    root = folder / "root"
    if not is_complete(root, key):
        start_over(root)
        sources = sources_of(debian_indexes(host.apt), host=host.release, release=suite)
        unpack(foreign_root(folder / "apt", sources, architecture="arm64"), PACKAGES, into=root)
        for name in ("bin", "lib", "sbin"):  # the package that makes these links needs its scripts run
            if not (root / name).exists():
                (root / name).symlink_to(f"usr/{name}")
        write_board(root)
        name_wheels_of_pip(root)
        wrap_python(root, suite, command=emulated(host, folder))
        complete(root, key)
    return Userland(suite, folder, host, len(list((folder / "apt/cache/archives").glob("*.deb"))))


def name_wheels_of_pip(root: Path) -> None:
    """Name Debian's wheel of pip by its path on the host: Python 3.13's venv copies it with calls that qemu does not redirect."""
    wheels = "/usr/share/python-wheels"
    for settings in root.glob("usr/lib/python3.*/_sysconfigdata_*.py"):
        settings.write_text(settings.read_text().replace(f"'{wheels}", f"'{root}{wheels}"))


def wrap_python(root: Path, suite: str, *, command: str) -> None:
    """Put a script in the place of the userland's Python that starts it in the emulation, under the name it was called by."""
    python = root / "usr" / "bin" / f"python{SUITES[suite]}"
    real = python.with_name(f"{python.name}.arm64")
    python.rename(real)
    unset = " ".join(f"-u {name}" for name in UNWANTED)
    python.write_text(f'#!/bin/sh\nexec env {unset} {command} -0 "$0" {shlex.quote(str(real))} "$@"\n')
    python.chmod(0o755)


def emulated(host: Host, folder: Path) -> str:
    """Return the beginning of a shell command that starts an ARM program; its path and arguments come behind."""
    libraries = [f"LD_LIBRARY_PATH={host.libraries}"] if host.libraries else []
    return shlex.join([*libraries, str(host.qemu), "-cpu", CPU, "-L", str(folder / "root"), "-U", "LD_LIBRARY_PATH"])


def is_complete(folder: Path, key: str) -> bool:
    """Return whether a folder was built to its end, from what the key says."""
    done = folder / DONE
    return done.is_file() and done.read_text() == key


def complete(folder: Path, key: str) -> None:
    """Note that a folder was built to its end."""
    (folder / DONE).write_text(key)


def start_over(folder: Path) -> None:
    """Make a folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def hash_of_board() -> str:
    """Return what changes when the board's files do."""
    return hashlib.sha256(repr(sorted(board_files().items())).encode()).hexdigest()[:16]
