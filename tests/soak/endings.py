"""How a run ends: by SIGTERM whatever is blocked, and by SIGKILL in the middle of a recording."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import cv2
from bundles import small_bundle
from children import pictures
from entry import Entry, at_most, machine
from http_camera_server import HttpCamera
from rtsp_camera_server import RtspCamera

KILLS = 30


def terminated() -> list[Entry]:
    """Send SIGTERM to the command while something of it is blocked, and time its end."""
    states: dict[str, Callable[[], float]] = {
        "running": lambda: ended_s("--source", "test://"),
        "camera_stalled": lambda: stalled("stall"),
        "camera_dripping": lambda: stalled("drip"),
        "rtsp_camera_silent": lambda: stalled("silent", RtspCamera),
        "camera_away": away,
        "stdin_silent": lambda: ended_s("--source", "-", "--width", "64", "--height", "48"),
        "stdout_not_read": lambda: ended_s("--source", "test://pattern?fps=500", "--output", "jsonl", read=False),
        "broker_dead": lambda: ended_s("--source", "test://", "--mqtt", "mqtt://127.0.0.1:9"),
    }
    how = f"from SIGTERM to the end of the process, worst of 3; {machine()}"
    return [
        at_most(f"sigterm_{name}_s", max(float(state()) for _ in range(3)), bound=2.0, unit="s", how=how) for name, state in states.items()
    ]  # type: ignore[arg-type]


def stalled(mode: str, camera_type: type[HttpCamera] | type[RtspCamera] = HttpCamera) -> float:
    """Return how long the end takes on a camera that went bad."""
    with camera_type(list(pictures()), fps=30) as camera:
        return ended_s("--source", camera.address, meanwhile=lambda: setattr(camera, "mode", mode))


def away() -> float:
    """Return how long the end takes while a camera is waited for that answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        return ended_s("--source", f"http://127.0.0.1:{silent.getsockname()[1]}/x", "--wait")


def ended_s(*arguments: str, read: bool = True, meanwhile: Callable[[], object] = lambda: None) -> float:
    """Return the seconds from SIGTERM to the end of the camera command."""
    with command(*arguments, stdout=subprocess.DEVNULL if read else subprocess.PIPE) as process:
        time.sleep(2.5)
        meanwhile()
        time.sleep(1.0)
        if process.poll() is not None:
            raise RuntimeError(f"the camera command with {arguments} ended by itself with code {process.returncode}")
        began_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        return time.monotonic() - began_s


@contextmanager
def command(*arguments: str, stdout: int | IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Yield the running camera command; it is killed at the end if it still runs."""
    call = [sys.executable, "-m", "edgedistill.runtime", "camera", str(small_bundle()), *arguments]
    process = subprocess.Popen(call, stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def killed_recordings() -> list[Entry]:
    """Kill the command at random moments while it records, start it again each time, and play every clip."""
    moments = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder)
        for _ in range(KILLS):
            record(events, moments.uniform(0.8, 3.0))
        record(events, 3.0, end=signal.SIGTERM)
        clips = sorted(events.glob("*.avi"))
        broken = [clip.name for clip in clips if not plays(clip)]
        left = [name for name in os.listdir(events) if "part" in name]
    how = f"{KILLS} times SIGKILL between 0.8 and 3 s after the start, {len(clips)} clips in all; {machine()}"
    return [
        at_most("clips_that_do_not_play", len(broken), bound=0, unit="", how=how),
        at_most("unfinished_files_left", len(left), bound=0, unit="", how=how),
    ]


def record(folder: Path, seconds: float, end: int = signal.SIGKILL) -> None:
    """Record events, short ones after each other, for a time."""
    flags = ("--record", str(folder), "--record-above", "0", "--record-below", "0", "--pre-roll", "0.2", "--post-roll", "0.1")
    with command("--source", "test://pattern?width=160&height=120&fps=60", *flags, stdout=subprocess.DEVNULL) as process:
        time.sleep(seconds)
        process.send_signal(end)
        process.wait(20)


def plays(clip: Path) -> bool:
    """Return whether all frames that a clip says it has can be read, and there is one."""
    capture = cv2.VideoCapture(str(clip))
    expected, count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0
    while capture.read()[0]:
        count += 1
    return count == expected > 0
