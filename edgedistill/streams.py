"""Standard output and error of a command line: what happens when one is closed, its reader leaves, or its disk is full.

A reader that leaves, such as `head -1`, has seen enough: that ends a command quietly and well. A disk that is full is the user's error.
"""

from __future__ import annotations

import errno
import os
import select
import sys
from contextlib import suppress
from typing import IO

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def replace_closed() -> None:
    """Put streams to nowhere in the place of those that the process was started without: `print` would send errors among the results."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def tell(text: str) -> None:
    """Print a line to stderr, if somebody reads it."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def end_of_output(error: OSError) -> int | None:
    """Return the exit code where a reader has left or a disk is full; None for any other error, and then nothing is done.

    What is still in the broken stream's buffer goes to nowhere, so that the end of the process does not fail on it once more.
    """
    if isinstance(error, BrokenPipeError):
        gone = [stream for stream in (sys.stdout, sys.stderr) if _reader_gone(stream)]
        for stream in gone:
            _silence(stream)
        return 0 if gone else None
    if error.errno not in FULL:
        return None
    if not _flushes(sys.stdout):
        _silence(sys.stdout)
    where = f" {error.filename}" if error.filename else ""
    tell(f"Error: the output{where} cannot be written: {error.strerror}; make room, or write it elsewhere")
    return 1


def _reader_gone(stream: IO[str]) -> bool:
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):  # not a real file, or a system without poll
        return not _flushes(stream)


def _flushes(stream: IO[str]) -> bool:
    try:
        stream.flush()
    except (OSError, ValueError):
        return False
    return True


def _silence(stream: IO[str]) -> None:
    """Point a stream's file to nowhere."""
    with suppress(OSError, ValueError):  # not a real file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
