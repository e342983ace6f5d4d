"""What was found out about data at its first opening, kept in the cache folder: it is not decoded or read again at each opening.

Whatever is kept here can be deleted. Who asks has to say by what it would see that the data changed since.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgedistill.bundle import write_atomically

#: Raise with any change of what is kept, or of how it is found out.
FORMAT = 1
Kind = TypeVar("Kind")


def recall(about: str, kind: type[Kind]) -> Kind | None:
    """Return what is kept about something, None for nothing that can be read."""
    try:
        return msgspec.json.decode(_file(about).read_bytes(), type=kind)
    except (OSError, ValueError, RecursionError):  # ValueError: not UTF-8, an integer of thousands of digits, msgspec's own
        return None


def remember(about: str, found: Any) -> None:
    """Keep what was found out about something; where that cannot be written it is found out again."""
    with contextlib.suppress(OSError):
        write_atomically(_file(about), msgspec.json.encode(found))


def _file(about: str) -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgedistill" / "data"
    return folder / f"{hashlib.sha256(f'{FORMAT} {about}'.encode()).hexdigest()[:32]}.json"
