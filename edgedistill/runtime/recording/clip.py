"""A clip in work and its end. The file in work is the clip itself: pictures are appended as they come, at the end follow the index
and the head with what is known only then. So finishing takes neither time nor room, and a torn file is whole up to its last picture.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple

import msgspec

from edgedistill.runtime.disk import flush_folder
from edgedistill.runtime.recording import avi
from edgedistill.runtime.recording.events import Picture
from edgedistill.runtime.recording.stamp import MOST_BYTES, Stamp, stamp_of, stamped

WORK = ".work.part"
#: The rate of a clip of one picture, and between which others are.
ONE_FPS, LOWEST_FPS, HIGHEST_FPS = 1.0, 0.1, 1000.0
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


#: What the head has room for.
Side = Annotated[int, msgspec.Meta(ge=0, lt=2**15)]


class Note(msgspec.Struct, frozen=True):
    """What a clip's head says of its event: when it began (seconds since 1970), of which source, and the size of the pictures."""

    begin_s: float
    source: int
    source_name: str
    size_hw: tuple[Side, Side]


class Entry(NamedTuple):
    """A picture in a clip: its bytes in the file, and when it was taken and what was seen on it."""

    length: int
    stamp: Stamp


class Clip:
    """A clip in work.

    Args:
        target: the file when it is finished.
        opened: opens the file in work; unbuffered, because what is not written must be known.
    """

    def __init__(self, target: Path, note: Note, *, opened: Callable[[Path], io.FileIO] = lambda path: io.FileIO(path, "w+")) -> None:
        self.target, self.note = target, note
        self.work = target.with_name(f".{target.stem}{WORK}")
        self.entries: list[Entry] = []
        self._stream = opened(self.work)
        try:
            self.bytes = _write(self._stream, _head([], note))
        except OSError:
            self.abandon()
            self.work.unlink(missing_ok=True)
            raise

    def add(self, picture: Picture) -> None:
        """Append a picture; where that fails the clip is as before."""
        stamp = Stamp(picture.at_s, picture.time_s, picture.score, picture.label)
        jpeg = stamped(picture.jpeg, stamp)
        try:
            self.bytes += _write(self._stream, avi.chunk(jpeg))
        except OSError:
            self._stream.truncate(self.bytes)
            self._stream.seek(self.bytes)
            raise
        self.entries.append(Entry(len(jpeg), stamp))

    def finish(self) -> list[Entry]:
        """Make the file whole and give it its name; return what is in it: nothing, and no file, if there was no room at all."""
        return _finished(self._stream, self.work, self.target, self.note, self.entries)

    def abandon(self) -> None:
        """Leave the file in work as it is, for the next start."""
        self._stream.close()


def finish(work: Path, target: Path) -> list[Entry]:
    """Finish what a killed process left in work, as `Clip.finish` does."""
    stream = io.FileIO(work, "r+")
    note = note_of(stream)
    entries = entries_of(stream) if note is not None else []
    return _finished(stream, work, target, note or Note(0.0, 0, "", (0, 0)), entries)


def note_of(stream: BinaryIO) -> Note | None:
    """Return the note of a clip, None if it has none."""
    text = avi.note_of(stream)
    try:
        return msgspec.json.decode(text, type=Note) if text else None
    except (ValueError, RecursionError):  # ValueError: not UTF-8, an integer of thousands of digits, msgspec's own
        return None


def entries_of(stream: BinaryIO) -> list[Entry]:
    """Return the pictures of a clip that are whole."""
    found = []
    for length, begin in avi.pictures(stream, MOST_BYTES):
        if (stamp := stamp_of(begin)) is None:
            break
        found.append(Entry(length, stamp))
    return found


def _finished(stream: io.FileIO, work: Path, target: Path, note: Note, entries: list[Entry]) -> list[Entry]:
    with stream:
        whole = _sealed(stream, note, entries)
    if not whole:
        work.unlink(missing_ok=True)
        return []
    work.replace(target)
    flush_folder(target.parent)
    return whole


def _sealed(stream: io.FileIO, note: Note, entries: list[Entry]) -> list[Entry]:
    """Write index and head; on a full disk the last pictures make room for them. Return the pictures that are left."""
    while entries:
        lengths = [entry.length for entry in entries]
        end = avi.HEAD_BYTES + sum(map(avi.chunk_bytes, lengths))
        stream.truncate(end)
        stream.seek(end)
        try:
            _write(stream, avi.index(lengths))
        except OSError as error:
            if error.errno not in _FULL:
                raise
            entries = entries[: -max(1, len(entries) // 10)]
            continue
        stream.seek(0)
        _write(stream, _head(entries, note))
        os.fsync(stream.fileno())
        return entries
    return []


def _head(entries: list[Entry], note: Note) -> bytes:
    lengths = [entry.length for entry in entries]
    return avi.head(lengths, size_hw=note.size_hw, fps=rate([entry.stamp.at_s for entry in entries]), note=msgspec.json.encode(note))


def rate(times_s: list[float]) -> float:
    """Return the frames a second that let a clip take as long as the event did."""
    seconds = times_s[-1] - times_s[0] if times_s else 0.0
    return min(HIGHEST_FPS, max(LOWEST_FPS, (len(times_s) - 1) / seconds)) if seconds > 0 else ONE_FPS


def _write(stream: io.FileIO, data: bytes) -> int:
    """Write all of the data, which the system may take in parts; return how much it is."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) or 0 :]
    return len(data)
