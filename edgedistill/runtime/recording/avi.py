"""Motion JPEG in an AVI file, without decoding or encoding anything; every player and OpenCV read it.

Format: Microsoft's AVI RIFF reference (AVI 1.0 with an idx1 index), so a file is under 2 GB. The head has a fixed length and is
written once more at the end, so that pictures can be appended to a file whose number, rate and end nobody knows yet.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO

HEAD_BYTES = 4096
MOST_BYTES = 2**31 - 2**24
#: What a picture takes beside its bytes: the chunk's head, a byte to make it even, and the entry in the index.
PICTURE_BYTES = 8 + 1 + 16
_HAS_INDEX, _KEY_FRAME = 0x10, 0x10
_SCALE = 1000
_FRAME = b"00dc"


def chunk(jpeg: bytes) -> bytes:
    """Return a picture as it lies in the file."""
    return struct.pack("<4sI", _FRAME, len(jpeg)) + jpeg + b"\0" * (len(jpeg) % 2)


def chunk_bytes(length: int) -> int:
    """Return how much a picture of so many bytes takes as a chunk."""
    return 8 + length + length % 2


def index(lengths: Sequence[int]) -> bytes:
    """Return the index that follows pictures of these lengths."""
    place, entries = 4, []
    for length in lengths:
        entries.append(struct.pack("<4sIII", _FRAME, _KEY_FRAME, place, length))
        place += chunk_bytes(length)
    return _chunk(b"idx1", b"".join(entries))


def head(lengths: Sequence[int], *, size_hw: tuple[int, int], fps: float, note: bytes) -> bytes:
    """Return the first `HEAD_BYTES` of a file of pictures of these lengths.

    Args:
        note: what nobody but `note_of` reads.
    """
    pictures = sum(map(chunk_bytes, lengths))
    end = HEAD_BYTES + pictures + 8 + 16 * len(lengths)
    begin = struct.pack("<4sI4s", b"RIFF", end - 8, b"AVI ") + _streams(len(lengths), max(lengths, default=0), size_hw, fps=fps)
    room = HEAD_BYTES - len(begin) - 8 - 12
    if len(note) > room:
        raise ValueError(f"a note of {len(note)} bytes does not fit into the head of a clip: at most {room}")
    return begin + _chunk(b"JUNK", note.ljust(room, b"\0")) + struct.pack("<4sI4s", b"LIST", 4 + pictures, b"movi")


def note_of(stream: BinaryIO) -> bytes | None:
    """Return the note of a file, None if it is none of `head`'s."""
    stream.seek(0)
    begin = stream.read(HEAD_BYTES)
    place = len(_streams(0, 0, (0, 0), fps=1.0)) + 12
    if len(begin) < HEAD_BYTES or begin[:4] != b"RIFF" or begin[place : place + 4] != b"JUNK" or begin[-4:] != b"movi":
        return None
    return begin[place + 8 : -12].rstrip(b"\0")


def pictures(stream: BinaryIO, most_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield the length and the first bytes of each picture that is whole, up to the end, the index or what was torn."""
    end, place = stream.seek(0, io.SEEK_END), HEAD_BYTES
    while place + 8 <= end:
        stream.seek(place)
        name, length = struct.unpack("<4sI", stream.read(8))
        if name != _FRAME or place + chunk_bytes(length) > end:
            return
        begin = stream.read(min(length, most_bytes))
        stream.seek(place + 8 + max(0, length - 2))
        if not begin.startswith(b"\xff\xd8") or stream.read(2) != b"\xff\xd9":
            return
        yield length, begin
        place += chunk_bytes(length)


def _streams(frames: int, largest: int, size_hw: tuple[int, int], *, fps: float) -> bytes:
    height, width = size_hw
    rate = max(1, round(fps * _SCALE))
    bandwidth = min(2**32 - 1, round(largest * fps))
    main = struct.pack("<14I", round(1e6 / fps), bandwidth, 0, _HAS_INDEX, frames, 0, 1, largest, width, height, 0, 0, 0, 0)
    video = struct.pack("<4s4sIHHIIIIIIiIhhhh", b"vids", b"MJPG", 0, 0, 0, 0, _SCALE, rate, 0, frames, largest, -1, 0, 0, 0, width, height)
    bitmap = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MJPG", width * height * 3, 0, 0, 0, 0)
    stream_list = _chunk(b"LIST", b"strl" + _chunk(b"strh", video) + _chunk(b"strf", bitmap))
    return _chunk(b"LIST", b"hdrl" + _chunk(b"avih", main) + stream_list)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack("<4sI", name, len(data)) + data
