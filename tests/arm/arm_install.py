"""What a user does on the board: a virtual environment, and the wheel with an interpreter by pip, both inside the emulation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from arm_apt import NotHere
from arm_userland import Userland, complete, is_complete, start_over

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = "litert,onnx"
INSTALL_S, RUN_S = 600, 300
NO_NETWORK = ("ConnectionError", "No matching distribution", "Could not find a version", "Temporary failure in name resolution")


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this checkout and return it."""
    start_over(folder)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_S)
    if built.returncode != 0:
        raise_for(built.stderr, "the wheel does not build")
    return next(folder.glob("edgedistill-*.whl"))


def install(userland: Userland, wheel: Path) -> Path:
    """Return the Python of a virtual environment in which the wheel is installed with both interpreters."""
    venv = userland.folder / "venv"
    python = venv / "bin" / "python"
    if not is_complete(venv, "venv"):
        shutil.rmtree(venv, ignore_errors=True)
        run([str(userland.python), "-m", "venv", str(venv)], what="the virtual environment cannot be made")
        run(pip(python, f"{wheel}[{EXTRAS}]"), what="pip cannot install the wheel and the interpreters")
        complete(venv, "venv")
    else:  # what the wheel needs is there; the wheel itself is of the present checkout
        run(pip(python, "--no-deps", "--force-reinstall", str(wheel)), what="pip cannot install the wheel")
    return python


def pip(python: Path, *arguments: str) -> list[str]:
    """Return a call of the emulated pip, which takes only packages that are built already, as a board should."""
    return [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary=:all:", *arguments]


def run(command: Sequence[str], *, what: str) -> None:
    """Run a command of the installation; raises NotHere where the network is missing, RuntimeError else."""
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=INSTALL_S)
    if done.returncode != 0:
        raise_for(done.stderr, what)


def raise_for(message: str, what: str) -> None:
    """Raise what a failed installation means."""
    error = NotHere if any(sign in message for sign in NO_NETWORK) else RuntimeError
    raise error(f"{what}: {message.strip()[-2000:]}")


def environment(**more: str) -> dict[str, str]:
    """Return the environment of emulated programs: where pip looks is the host's own setting, what the host's Python has is left out."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON") and name != "VIRTUAL_ENV"}
    return kept | {"PYTHONHASHSEED": "0", "PIP_ROOT_USER_ACTION": "ignore"} | more
