"""When a picture was taken and what was seen on it, as a comment within the JPEG, which every decoder skips.

So a clip tells all about itself: nothing that a killed process knew is needed to finish it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import msgspec

_PREFIX = b"edgedistill "
_COMMENT, _APPLICATION_0 = 0xFFFE, 0xFFE0
_LONGEST_LABEL = 200
#: A stamp ends within so many bytes from the picture's begin.
MOST_BYTES = 4096


class Stamp(NamedTuple):
    """What is noted in a picture, see `events.Picture`."""

    at_s: float
    time_s: float
    score: float
    label: str


_decoder = msgspec.json.Decoder(tuple[float, float, float, str])


def stamped(jpeg: bytes, stamp: Stamp) -> bytes:
    """Return the JPEG with the stamp as a comment before the picture."""
    text = _PREFIX + msgspec.json.encode((*stamp[:3], stamp.label[:_LONGEST_LABEL]))
    place = 2  # after the start, and after the JFIF segment, which has to be the first
    if struct.unpack_from(">H", jpeg, place)[0] == _APPLICATION_0:
        place += 2 + struct.unpack_from(">H", jpeg, place + 2)[0]
    return jpeg[:place] + struct.pack(">HH", _COMMENT, 2 + len(text)) + text + jpeg[place:]


def stamp_of(jpeg: bytes) -> Stamp | None:
    """Return the stamp of a picture, of which the first `MOST_BYTES` are enough; None if it has none."""
    place = 2
    while place + 4 <= len(jpeg):
        marker, length = struct.unpack_from(">HH", jpeg, place)
        content = jpeg[place + 4 : place + 2 + length]
        if marker == _COMMENT and content.startswith(_PREFIX):
            try:
                return Stamp(*_decoder.decode(content[len(_PREFIX) :]))
            except (ValueError, RecursionError):  # ValueError: not UTF-8, an integer of thousands of digits, msgspec's own
                return None
        if marker not in range(_APPLICATION_0, _APPLICATION_0 + 16):
            return None
        place += 2 + length
    return None
