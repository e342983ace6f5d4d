"""Image files that are decoded once: which of them can be, and what their pixels are. A file is known by path, size and time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edgedistill.distill.images import decode_file, digest_of
from edgedistill.distill.memory import recall, remember
from edgedistill.errors import DataError

#: Size in bytes, time of the last change in ns, and `digest_of` the frame; None: it cannot be decoded.
Known = tuple[int, int, str | None]


def check(paths: Sequence[Path], root: Path) -> list[str | None]:
    """Return the checksum of each file's pixels, None for a file that cannot be decoded; all files lie below `root`."""
    about = f"image files below {root.resolve()}"
    names = [os.path.relpath(path, root) for path in paths]
    known = recall(about, dict[str, Known]) or {}
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda name, path: _look(path, known.get(name)), names, paths))
    now = dict(zip(names, found, strict=True))
    if now != known:
        remember(about, now)
    return [digest for _, _, digest in found]


def _look(path: Path, known: Known | None) -> Known:
    """Return what is known of a file, after decoding it if it is new or another than it was."""
    status = path.stat()
    if known is not None and known[:2] == (status.st_size, status.st_mtime_ns):
        return known
    try:
        return status.st_size, status.st_mtime_ns, digest_of(decode_file(path))
    except DataError:
        return status.st_size, status.st_mtime_ns, None
