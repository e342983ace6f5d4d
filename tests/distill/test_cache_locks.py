"""Locks are between processes, shared or alone, and end with their holders."""

import gc
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgedistill.distill.cache.locks import Shared, exclusive, if_free


def is_free(path: Path) -> bool:
    with if_free(path) as free:
        return free


def test_a_lock_held_alone_is_not_free_and_is_free_afterwards(tmp_path: Path) -> None:
    with exclusive(tmp_path / "lock"):
        assert not is_free(tmp_path / "lock")
    assert is_free(tmp_path / "lock")


def test_a_lock_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path / "lock"):
        1 / 0  # noqa: B018
    assert is_free(tmp_path / "lock")


def test_a_shared_lock_is_held_until_the_last_holder_is_gone(tmp_path: Path) -> None:
    first, second = Shared(tmp_path / "lock"), Shared(tmp_path / "lock")
    first.close()
    assert not is_free(tmp_path / "lock")
    del second
    gc.collect()
    assert is_free(tmp_path / "lock")


def test_who_waits_is_told_so_and_then_gets_the_lock(tmp_path: Path) -> None:
    waited, done = threading.Event(), threading.Event()

    def second() -> None:
        with exclusive(tmp_path / "lock", waiting=waited.set):
            done.set()

    thread = threading.Thread(target=second)
    with exclusive(tmp_path / "lock"):
        thread.start()
        assert waited.wait(timeout=20)
        assert not done.is_set()
    thread.join(timeout=20)
    assert done.is_set()


@pytest.mark.slow
def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    script = (
        "import sys, time, pathlib; from edgedistill.distill.cache.locks import exclusive\n"
        "with exclusive(pathlib.Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert not is_free(tmp_path / "lock")
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert is_free(tmp_path / "lock")
