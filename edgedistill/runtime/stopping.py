"""How a run ends: the first signal asks, the second one forces, and nothing that is blocked can hold the process."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: How long after the first signal the process is ended hard, should it not have ended by itself.
GRACE_S = 1.8


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets; the second, or `GRACE_S`, ends the process at once with 130 or 143."""
    stop = threading.Event()
    over = threading.Event()

    def end_late(code: int) -> None:
        if not over.wait(GRACE_S):
            os._exit(code)

    def handle(number: int, stack: object) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()
        threading.Thread(target=end_late, args=(128 + number,), name="grace", daemon=True).start()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        over.set()
        for number, handler in before.items():
            signal.signal(number, handler)


def leave(code: int) -> int:
    """Return the exit code, unless a thread still works in the background: then end the process here, with it.

    It may be blocked in a driver or on the network. And Python's own end would take a thread that is just in OpenCV out of there by force,
    which C++ answers by aborting the process.
    """
    if any(thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # nobody reads it any more
                stream.flush()
        os._exit(code)
    return code
