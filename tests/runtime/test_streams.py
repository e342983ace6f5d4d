"""What a command does when nobody reads what it writes, or nothing can be written: as real processes with real pipes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgedistill import streams

LONG_S = 60
FULL_DISK = Path("/dev/full")


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-m", *arguments]


@pytest.fixture(params=["edgedistill.runtime", "edgedistill.cli"])
def info(request: pytest.FixtureRequest, bundle_path: Path) -> list[str]:
    """Return a command that writes more than one line, by either command line."""
    if request.param == "edgedistill.cli":
        pytest.importorskip("click", reason="click is not installed, as on a device")
    return program(request.param, "info", str(bundle_path), "--json")


def test_a_reader_that_leaves_is_no_bug(info: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(info, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=LONG_S)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_both_streams_to_a_reader_that_leaves(bundle_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    source = "test://pattern?width=64&height=48&frames=3"
    camera = program("edgedistill.runtime", "camera", str(bundle_path), "--source", source)
    done = subprocess.run(camera, stdout=writing, stderr=writing, timeout=LONG_S)
    os.close(writing)
    assert done.returncode == 0


@pytest.mark.skipif(not FULL_DISK.exists(), reason="there is no /dev/full")
def test_a_full_disk_is_an_error_in_words(info: list[str]) -> None:
    with FULL_DISK.open("wb") as full:
        done = subprocess.run(info, stdout=full, stderr=subprocess.PIPE, text=True, timeout=LONG_S)
    assert (done.returncode, done.stderr) == (
        1,
        "Error: the output cannot be written: No space left on device; make room, or write it elsewhere\n",
    )


@pytest.mark.parametrize("closed", ["1", "2", "1 2"])
def test_a_process_without_streams_goes_on(bundle_path: Path, tmp_path: Path, closed: str) -> None:
    source = "test://pattern?width=64&height=48&frames=3"
    command = program("edgedistill.runtime", "camera", str(bundle_path), "--source", source, "--output", "csv")
    shell = 'out="$1"; shift; exec "$@" > "$out" ' + " ".join(f"{number}>&-" for number in closed.split())
    done = subprocess.run(["sh", "-c", shell, "sh", str(tmp_path / "out"), *command], capture_output=True, timeout=LONG_S)
    assert done.returncode == 0
    lines = (tmp_path / "out").read_text().splitlines()
    assert len(lines) == (0 if "1" in closed else 4), "the summary is not among the results"


def test_a_full_disk_is_no_bug_wherever_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert streams.end_of_output(OSError(errno.ENOSPC, "No space left on device", "runs/a.json")) == 1
    assert "the output runs/a.json cannot be written: No space left on device" in capsys.readouterr().err


def test_an_error_of_something_else_is_not_taken_for_one_of_the_streams() -> None:
    assert streams.end_of_output(BrokenPipeError(errno.EPIPE, "a socket's")) is None
    assert streams.end_of_output(FileNotFoundError(errno.ENOENT, "no such file")) is None
