"""The device's command line in processes of its own: what it may import, pipes, signals, a camera that hangs."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fakes import mjpeg_server

from edgedistill.runtime.results import read_results

BLOCKED = ("torch", "torchvision", "timm", "onnx", "tensorflow", "click", "rich", "psutil", "matplotlib", "PIL", "scipy")
#: Blocks imports and then runs the module as `python -m` would.
GUARD = textwrap.dedent(
    f"""
    import runpy, sys
    class Guard:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in {BLOCKED!r}:
                raise ModuleNotFoundError(f"{{name}} is blocked", name=name)
    sys.meta_path.insert(0, Guard())
    sys.argv[0] = "edgedistill.runtime"
    runpy.run_module("edgedistill.runtime", run_name="__main__", alter_sys=True)
    """
)
LIVE = "test://pattern?width=64&height=48&fps=50"


def start(bundle: Path, *arguments: str, command: Sequence[str] = ("-m", "edgedistill.runtime")) -> subprocess.Popen[str]:
    """Start the camera command and return the process."""
    call = [sys.executable, *command, "camera", str(bundle), *arguments]
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_heed_sigint)


def _heed_sigint() -> None:
    """Take SIGINT as a terminal's process does: a shell's background job, such as a build server's, starts with it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("file", ["tflite-int8", "onnx-fp32"])
@pytest.mark.parametrize("command", ["camera", "profile", "selfcheck", "info"])
def test_it_runs_without_the_workstations_packages(bundle_path: Path, command: str, file: str) -> None:
    arguments = {
        "camera": ["--source", LIVE, "--frames", "2", "--file", file, "--output", "jsonl"],
        "profile": ["--runs", "2", "--file", file, "--json"],
        "selfcheck": ["--file", file, "--json"],
        "info": ["--json"],
    }[command]
    done = subprocess.run([sys.executable, "-c", GUARD, command, str(bundle_path), *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines() if command == "camera" else [done.stdout]
    assert [json.loads(line)["schema"] for line in lines] == [1] * len(lines)


def test_the_guard_blocks() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GUARD.partition("sys.argv")[0] + "import torch"], capture_output=True, text=True, timeout=60
    )
    assert "torch is blocked" in done.stderr


def test_only_one_interpreter_is_loaded(bundle_path: Path) -> None:
    code = (
        "import sys\nfrom edgedistill.runtime.__main__ import main\n"
        f"main(['camera', {str(bundle_path)!r}, '--source', {LIVE!r}, '--frames', '1'])\n"
        "print([name for name in ('ai_edge_litert', 'onnxruntime') if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1] == "['ai_edge_litert']"


def test_a_reader_that_leaves_ends_the_run_quietly(bundle_path: Path) -> None:
    process = start(bundle_path, "--source", LIVE, "--output", "jsonl")
    assert process.stdout is not None
    assert next(read_results(process.stdout)).frame_id == 0
    process.stdout.close()
    assert process.wait(timeout=30) == 0
    assert process.stderr is not None
    told = process.stderr.read()
    process.stderr.close()
    assert "BrokenPipe" not in told
    assert "Traceback" not in told
    assert " frames" in told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_running_process_with_a_summary(bundle_path: Path, number: int) -> None:
    process = start(bundle_path, "--source", LIVE)
    assert process.stdout is not None
    assert "ms" in process.stdout.readline()
    process.send_signal(number)
    out, told = process.communicate(timeout=30)
    assert process.returncode == 0
    assert f"{len(out.splitlines()) + 1} frames" in told


@pytest.mark.parametrize("twice", [False, True])
def test_a_camera_that_hangs_does_not_hold_the_process(bundle_path: Path, twice: bool) -> None:
    with mjpeg_server([np.zeros((48, 64, 3), np.uint8)] * 5, then="stall") as address:
        process = start(bundle_path, "--source", address)
        assert process.stdout is not None
        assert "ms" in process.stdout.readline()
        time.sleep(0.3)
        began_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        if twice:
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=30)
        took_s = time.monotonic() - began_s
    assert process.returncode in ((143, -signal.SIGTERM) if twice else (0,)), "the second may come when all has ended but the process"
    assert took_s < 3, "the blocked read was waited for"
    assert (" frames" in told) or twice
    assert "terminate" not in told


def test_a_stream_that_never_answers_can_be_interrupted_while_it_opens(bundle_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = start(bundle_path, "--source", f"http://127.0.0.1:{silent.getsockname()[1]}/x")
        connection, _ = silent.accept()
        began_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
        connection.close()
    assert process.returncode == 130
    assert time.monotonic() - began_s < 5, "the opening of 10 s was waited for"
    assert told.splitlines()[-1] == "Interrupted."


def test_exit_codes_reach_the_shell(bundle_path: Path, tmp_path: Path) -> None:
    for arguments, code in (
        (["camera", str(bundle_path), "--source", "missing.mp4"], 4),
        (["info", str(tmp_path)], 1),
        (["camera", str(bundle_path), "--frames", "none"], 2),
    ):
        done = subprocess.run([sys.executable, "-m", "edgedistill.runtime", *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
