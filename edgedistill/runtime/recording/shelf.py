"""The folder of events: names that fit into it, a quota that the oldest events make room for, and one run at a time."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from edgedistill.errors import OutputError

SUFFIXES = (".avi", ".jpg", ".json")
#: The picture from before an event, where pictures are kept.
BEFORE = "-before"
EVENT = re.compile(r"\d{8}T\d{6}-[\w+-]+")
_LONGEST_LABEL = 40


class Shelf:
    """The events of a folder and what they take, finished ones and those in work. Other files in the folder are left alone.

    The folder is looked through once, at the start; raises OutputError if another run records to it.
    """

    def __init__(self, folder: Path, quota_bytes: int) -> None:
        self.folder, self.quota_bytes = folder, quota_bytes
        self._lock = _locked(folder)
        self._finished: dict[str, int] = {}
        self._in_work: dict[str, int] = {}

    def look_through(self) -> None:
        """Find the finished events, and remove the oldest if they are more than the quota."""
        for stem in sorted({file.name.partition(".")[0].removesuffix(BEFORE) for file in self.folder.iterdir() if _is_event(file)}):
            self._finished[stem] = self._size_of(stem)
        self._evict(0)

    def free_name(self, time_s: float, label: str, source: int) -> str:
        """Return a name without suffix that no event has, from its local time, label and source."""
        begin = f"{time.strftime('%Y%m%dT%H%M%S', time.localtime(time_s))}-{slug(label)}-{source}"
        name, number = begin, 1
        while name in self._finished or name in self._in_work or any(file.exists() for file in self._files_of(name)):
            number += 1
            name = f"{begin}-{number}"
        return name

    def make_room(self, name: str, total_bytes: int) -> bool:
        """Let an event in work take so many bytes altogether, if need be by removing the oldest finished ones; return whether it may."""
        before = self._in_work.get(name, 0)
        if not self._evict(total_bytes - before):
            return False
        self._in_work[name] = total_bytes
        return True

    def in_work(self, name: str) -> int:
        """Return what an event in work takes."""
        return self._in_work.get(name, 0)

    def finished(self, name: str) -> None:
        """Count an event as finished, with what it really takes; one that left no file is forgotten."""
        self._in_work.pop(name, None)
        size = self._size_of(name)
        if size:
            self._finished[name] = size

    def close(self) -> None:
        """Let other runs record to the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _evict(self, for_bytes: int) -> bool:
        taken = sum(self._finished.values()) + sum(self._in_work.values()) + for_bytes
        while taken > self.quota_bytes and self._finished:
            oldest = next(iter(self._finished))
            for file in self._files_of(oldest):
                file.unlink(missing_ok=True)
            taken -= self._finished.pop(oldest)
        return taken <= self.quota_bytes

    def _size_of(self, stem: str) -> int:
        total = 0
        for file in self._files_of(stem):
            try:
                total += file.stat().st_size
            except FileNotFoundError:
                continue
        return total

    def _files_of(self, stem: str) -> Iterator[Path]:
        """Yield the files that an event may have; the JSON last, so that a kill between leaves no clip that nothing tells of."""
        yield self.folder / f"{stem}{BEFORE}.jpg"
        for suffix in SUFFIXES:
            yield self.folder / f"{stem}{suffix}"


def _is_event(file: Path) -> bool:
    return file.suffix in SUFFIXES and EVENT.fullmatch(file.stem) is not None


def slug(label: str) -> str:
    """Return a label as a part of a file's name: letters, digits, dashes and nothing that could lead out of a folder."""
    return re.sub(r"[^\w+-]+", "-", label).strip("-")[:_LONGEST_LABEL] or "event"


def _locked(folder: Path) -> int | None:
    """Return a lock on the folder that goes with the process; None where the system has none."""
    try:
        import fcntl
    except ImportError:  # not a Unix
        return None
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(number)
        raise OutputError(f"another run records events to {folder}; give each run a folder of its own") from error
    except OSError:  # a file system without locks
        os.close(number)
        return None
    return number
