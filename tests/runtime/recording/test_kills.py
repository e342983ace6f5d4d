"""Recording in processes that are killed at any moment, and on a disk that really is full."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from watching import clips_of, frames_in, recorder_of

HERE = Path(__file__).parent
QUOTA = 1_000_000
#: Records short events as fast as it can, in one child after the other: each says that it records, and goes on until it is killed.
PARENT = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    sys.path[:0] = [sys.argv[2]]
    import watching
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            recorder = watching.recorder_of(Path(sys.argv[1]), quota_bytes=1_000_000, pre_roll_s=0.3, post_roll_s=0.1)
            print(os.getpid(), flush=True)
            first = int(line)
            for number in range(first, first + 10**6):
                frame = watching.noise_of(number) if number % 50 == 0 else watching.frame_of(number)
                recorder.write(frame, watching.result_of(frame, 0.9 if number % 40 < 25 else 0.0))
        os.waitpid(child, 0)
        print("gone", flush=True)
    """
)


def kill_often(folder: Path, times: int) -> None:
    """Kill a recording process at random moments, and look at what it left each time."""
    moments = random.Random(0)
    call = [sys.executable, "-W", "error", "-c", PARENT, str(folder), str(HERE)]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        for time_no in range(times):
            print(time_no * 10_000, file=parent.stdin, flush=True)
            child = int(parent.stdout.readline())
            time.sleep(moments.uniform(0.0, 0.1))
            os.kill(child, signal.SIGKILL)
            assert parent.stdout.readline() == "gone\n"
            check(folder, finished=False)
        parent.stdin.close()
    recorder_of(folder, quota_bytes=QUOTA).close()
    check(folder, finished=True)
    assert clips_of(folder)


def check(folder: Path, *, finished: bool) -> None:
    """Check that all clips play, and, after recovery, that nothing else is there and the quota is kept."""
    for clip in clips_of(folder):
        count = len(frames_in(clip))
        assert count > 0
        if finished:
            assert json.loads(clip.with_suffix(".json").read_text())["frames"] == count
    names = {path.name for path in folder.iterdir()}
    if finished:
        assert {Path(name).suffix for name in names} <= {".avi", ".json"}
        assert not [name for name in names if name.startswith(".")]
    assert sum(path.stat().st_size for path in folder.iterdir()) <= QUOTA


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are forked and killed as on Linux")
def test_a_kill_leaves_clips_that_play(tmp_path: Path) -> None:
    kill_often(tmp_path, 3)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are forked and killed as on Linux")
def test_many_kills_leave_clips_that_play(tmp_path: Path) -> None:
    kill_often(tmp_path, 60)


FULL_DISK = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    sys.path[:0] = [sys.argv[2]]
    import watching
    from edgedistill.errors import OutputError
    from edgedistill.runtime import disk
    disk.KEEP_FREE_BYTES = 0
    from edgedistill.runtime.recording import watched
    watched.KEEP_FREE_BYTES = 0
    folder = Path(sys.argv[1])
    recorder, failures = watching.recorder_of(folder), []
    for number in range(200):
        frame = watching.noise_of(number)
        try:
            recorder.write(frame, watching.result_of(frame, 0.9))
        except OutputError as error:
            failures.append(str(error))
            if len(failures) == 3:
                break
    assert "No space left" in failures[0], failures
    recorder.close()
    names = [path.name for path in folder.iterdir()]
    assert not [name for name in names if name.startswith(".")], names
    clips = watching.clips_of(folder)
    print("frames", [len(watching.frames_in(clip)) for clip in clips])
    clips[0].unlink()
    again = watching.recorder_of(folder)
    watching.record(again, [0.9] * 5, first=300).close()
    print("then", len(watching.clips_of(folder)) - len(clips) + 1)
    """
)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a file system of its own")
def test_a_disk_that_is_really_full_leaves_clips_that_play(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=1m none {tmp_path} && exec {sys.executable} -W error -c '{FULL_DISK}' {tmp_path} {HERE}"
    if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(tmp_path)], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let users mount")
    done = subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    frames, then = done.stdout.splitlines()
    assert int(frames.partition("[")[2].partition(",")[0].rstrip("]")) > 20, done.stdout
    assert then == "then 1"
