"""Exports in processes of their own: the same bytes wherever they run, nothing of the machine in them, and what a signal leaves."""

from __future__ import annotations

import getpass
import os
import re
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors.torch
import tiny_bundle
from torch import nn

from edgedistill import bundle
from edgedistill.bundle import Bundle

CHILD = Path(__file__).with_name("export_child.py")
SHIPPED = Path(__file__).parents[2] / "export"


@pytest.fixture(scope="module")
def weights(student: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "student.safetensors"
    safetensors.torch.save_model(student, str(path))
    return path


def child(weights: Path, out: Path, *more: str, threads: int = 1, seed: int = 0, cwd: Path | None = None) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(CHILD.parents[2])}
    command = [sys.executable, str(CHILD), str(weights), str(out), *more]
    return subprocess.Popen(command, env=environment, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def exported_twice(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    """Return the bundles of two processes with other threads, hash seeds, working folders and places."""
    bundles = []
    for threads, seed, place in ((1, 1, "here"), (2, 4711, "somewhere/else")):
        folder = tmp_path_factory.mktemp("twice") / place
        folder.mkdir(parents=True)
        process = child(weights, folder / "bundle", "onnx,tflite", threads=threads, seed=seed, cwd=folder)
        _, said = process.communicate(timeout=280)
        assert process.returncode == 0, said
        bundles.append(bundle.load(folder / "bundle"))
    return bundles[0], bundles[1]


@pytest.mark.slow
def test_the_same_student_and_calibration_give_the_same_bytes(exported_twice: tuple[Bundle, Bundle]) -> None:
    first, second = exported_twice
    names = [[item.name for item in sorted(one.path.iterdir())] for one in exported_twice]
    assert names[0] == names[1]
    assert {Path(name).suffix for name in names[0]} == {".onnx", ".tflite", ".json", ".npz", ".md"}
    # The report and the manifest hold what was timed, which no two runs share.
    for name in names[0]:
        if name not in (bundle.MANIFEST_NAME, "report.md"):
            assert (first.path / name).read_bytes() == (second.path / name).read_bytes(), name
    assert untimed(first) == untimed(second)


def untimed(one: Bundle) -> bundle.Manifest:
    return msgspec.structs.replace(one.manifest, files=[msgspec.structs.replace(entry, speed=None) for entry in one.manifest.files])


@pytest.mark.slow
def test_nothing_of_this_machine_is_in_a_fresh_bundle(exported_twice: tuple[Bundle, Bundle]) -> None:
    for one in exported_twice:
        assert traces(one.path, also=(str(one.path.parent), Path.cwd().name)) == []


@pytest.mark.parametrize("name", sorted(path.name for path in SHIPPED.iterdir() if path.is_dir()))
def test_nothing_of_a_machine_is_in_a_shipped_bundle(name: str) -> None:
    assert traces(SHIPPED / name) == []


#: Paths of machines, parts of stack traces, and what only a Python installation has.
TRACE = re.compile(
    rb"/(?:home|root|Users|tmp|var/tmp|work|mnt|opt|usr|private)/[\w.-]+|[A-Z]:\\\\?[\w]+\\|site-packages|dist-packages|Traceback|"
    rb"stack_trace|File \"|\w\.py\b|\.venv|__pycache__"
)


def traces(folder: Path, *, also: tuple[str, ...] = ()) -> list[tuple[str, bytes]]:
    """Return what files of a folder tell of the machine that wrote them, members of zip files included."""
    words = {*also, sys.prefix, str(Path.home()), str(Path.cwd()), socket.gethostname()}
    user = re.compile(rb"(?<![A-Za-z])" + re.escape(getpass.getuser().encode()) + rb"(?![A-Za-z])")
    found = []
    for name, content in contents(folder):
        found += [(name, word.encode()) for word in words if len(word) > 5 and word.encode() in content]
        found += [(name, match[0]) for match in TRACE.finditer(content)]
        # In binary files three letters or four come by chance.
        if Path(name).suffix in (".json", ".md", ".txt"):
            found += [(name, match[0]) for match in user.finditer(content)]
    return found


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of every file, and of every file inside of one."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.name, path.read_bytes()
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    yield from ((f"{path.name}/{member}", archive.read(member)) for member in archive.namelist())


@pytest.mark.parametrize(
    "content",
    [
        b"\0/home/me/x",
        b"/root/.cache",
        b"C:\\Users\\me\\",
        b"lib/site-packages/torch",
        b'File "x.py", line 1',
        b"Traceback (most",
        b"a.py:7",
    ],
)
def test_the_scanner_finds_what_it_looks_for(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tflite").write_bytes(b"\1\2" + content + b"\0")
    assert traces(tmp_path)
    np.savez_compressed(tmp_path / "b.npz", text=np.frombuffer(content, np.uint8))
    assert any(name.startswith("b.npz/") for name, _ in traces(tmp_path))


@pytest.mark.parametrize("content", [b"logits/a.onnx", b"https://a.org/usr", b"int8/fp32", b"features.3.0", b"a root of unity"])
def test_the_scanner_lets_pass_what_is_harmless(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    assert traces(tmp_path) == []


@pytest.fixture
def stopped(weights: Path) -> Iterator[Callable[[Path, str], subprocess.Popen[str]]]:
    """Start exports that stand still at a step, and end those that a test leaves."""
    started: list[subprocess.Popen[str]] = []

    def start(out: Path, step: str) -> subprocess.Popen[str]:
        process = child(weights, out, "onnx", step)
        started.append(process)
        assert process.stdout is not None
        assert any(line == "standing still\n" for line in process.stdout), process.communicate()[1]
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL], ids=lambda ending: ending.name)
def test_an_export_that_is_ended_half_way_leaves_the_old_bundle(tmp_path: Path, stopped, weights: Path, ending: signal.Signals) -> None:
    out = tiny_bundle.make(tmp_path / "bundle")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    process = stopped(out, "writing")
    process.send_signal(ending)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert ([item.name for item in tmp_path.iterdir()] == ["bundle"]) is (ending is signal.SIGINT)
    if ending is signal.SIGKILL:
        again = child(weights, out, "onnx")
        _, said = again.communicate(timeout=200)
        assert again.returncode == 0, said
        assert bundle.load(out).manifest.name == "blobs"
        assert [item.name for item in tmp_path.iterdir()] == ["bundle"]
