"""What writing files safely needs of the disk: room, and names that survive a power cut."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from edgedistill.errors import OutputError

#: So much is left to others on the disk: a board whose disk is full to the last byte may not start again.
KEEP_FREE_BYTES = 16_000_000
#: How files are called until they are whole.
PART = ".part"


def require_room(folder: Path, needed_bytes: int = 0) -> None:
    """Raise OutputError unless so many bytes can be written there with `KEEP_FREE_BYTES` left over."""
    free = shutil.disk_usage(folder).free
    if free < KEEP_FREE_BYTES + needed_bytes:
        raise OutputError(
            f"the disk of {folder} is full: {free / 1e6:.0f} MB are free, at least {(KEEP_FREE_BYTES + needed_bytes) / 1e6:.0f} MB "
            f"are needed, and {KEEP_FREE_BYTES / 1e6:.0f} MB of them stay free; make room, or use another folder"
        )


def flush_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system offers that."""
    with suppress(OSError):  # some file systems, and Windows, know no such thing
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that has its name only once it is whole and on the disk; what a killed process leaves is called `.NAME.part`."""
    part = path.with_name(f".{path.name}{PART}")
    try:
        with part.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)
