"""What is fuzzed: a function over bytes that raises where anything but the project's own clear errors came out, and where to begin."""

from __future__ import annotations

import atexit
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

#: How long a message may be beside what it repeats of the input, escaped.
LONGEST_MESSAGE, ESCAPED = 2000, 6
#: Files are written here where it exists: thousands a second would wear a disk.
MEMORY = Path("/dev/shm")


class Target(NamedTuple):
    """One target.

    Args:
        check: takes any bytes, and raises for what is a bug.
        seeds: returns valid inputs to begin from.
        guided: whether following the code's branches pays: the parser is written here, byte by byte, and not in a library in C.
    """

    check: Callable[[bytes], None]
    seeds: Callable[[], tuple[bytes, ...]]
    guided: bool = False


def clear(error: Exception, data: bytes, *, without: str | None = None) -> None:
    """Raise if an error's message is none that a person could use, or holds what it must not tell; `data` is what was refused."""
    told = str(error)
    assert without is None or without not in told, told
    assert told.strip(), "an error without a message"
    assert len(told) <= LONGEST_MESSAGE + ESCAPED * len(data), f"a message of {len(told)} characters: {told[:200]}"


@functools.cache
def folder() -> Path:
    """Return a folder of this process, which is removed at its end."""
    made = tempfile.TemporaryDirectory(prefix="fuzz-", dir=MEMORY if MEMORY.is_dir() else None)
    atexit.register(made.cleanup)
    return Path(made.name)


def file_of(name: str, data: bytes) -> Path:
    """Return the path of a file with this content; the next call with the same name overwrites it."""
    path = folder() / name
    path.write_bytes(data)
    return path
