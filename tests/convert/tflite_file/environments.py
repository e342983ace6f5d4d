"""Virtual environments of interpreters that are not ours, made once below pytest's cache and kept for later runs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CHILD = Path(__file__).with_name("interpreter_child.py")


def environment(cache: pytest.Cache, *packages: str) -> Path:
    """Return the Python of an environment with these packages; fails the test where they cannot be installed."""
    name = hashlib.sha256("\n".join(packages).encode()).hexdigest()[:12]
    folder = Path(cache.mkdir("environments")) / name
    python = folder / "bin" / "python"
    if python.exists():
        return python
    # Under another name until it is whole; nothing in it is run but its Python, which finds its packages from where it lies.
    making = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{name}."))
    try:
        venv.create(making, with_pip=True)
        install = [str(making / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.fail(f"{' '.join(packages)} cannot be installed: {done.stderr}")
        os.rename(making, folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return python


def answers(python: Path | str, interpreter: str, *files: tuple[Path, np.ndarray]) -> list[dict[str, Any]]:
    """Return what an environment's interpreter makes of files and their inputs; it is started once."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(python), str(CHILD), interpreter]
        for number, (model, inputs) in enumerate(files):
            images = Path(folder, f"{number}.npz")
            np.savez(images, inputs=inputs)
            command += [str(model), str(images)]
        return list(told(command)["answers"])


def told(command: list[str], **environment: str) -> dict[str, Any]:
    """Return the JSON that a process prints last; fails the test where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200, env=os.environ | environment)
    if done.returncode:
        pytest.fail(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))
