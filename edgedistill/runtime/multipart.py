"""MJPEG over HTTP, taken apart: bytes as they come from the network in, whole parts out.

Cameras differ in everything: dashes and quotes of the boundary, lengths that are missing or wrong, parts without headers. So it goes
by what stands in the stream. A part is out as soon as its last byte is in: its length or its picture says where it ends, and only
where both fail the next boundary does. However the bytes are cut into pieces, the parts are the same. Decoding is not done here.
"""

from __future__ import annotations

import re
from email.message import Message
from enum import Enum
from typing import NamedTuple

from edgedistill.runtime.compressed import JpegHeader, jpeg_end, jpeg_header

#: Longest part: about what a camera of 20 megapixels writes.
MOST_PART_BYTES = 8 * 2**20
#: Longest header of a part, and the most that may stand before the first boundary.
MOST_HEADER_BYTES = 8 * 2**10
#: What may follow a boundary on its line: two dashes, spaces, the line's end.
_MOST_AFTER = 16
_AFTER = re.compile(rb"(--)?[ \t]*\r?\n")
_LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*([0-9]{1,15})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_BLANK_LINE = re.compile(rb"(?:\A|\n)\r?\n")
_PNG_END = b"IEND\xaeB`\x82"


class MultipartError(ValueError):
    """A stream that cannot be read any further; the message is what its source does."""


class _Place(Enum):
    BETWEEN, HEADER, PART = range(3)


class _Delimiter(NamedTuple):
    """A delimiter in the buffer: where the line break before it begins, where its line ends, and whether it is the last one."""

    begin: int
    after: int
    closes: bool


def boundary_of(content_type: str) -> str | None:
    """Return the boundary that a Content-Type gives, without quotes; None if it gives none."""
    message = Message()
    message["Content-Type"] = content_type.replace("\r", " ").replace("\n", " ")
    found = message.get_param("boundary")
    return found or None if isinstance(found, str) else None


class Multipart:
    """Takes bytes and returns parts; holds one part at most, and what was fed last."""

    def __init__(self, boundary: str | None, *, most_bytes: int = MOST_PART_BYTES) -> None:
        self.finished = False
        self._most_bytes = most_bytes
        self._boundary = (boundary or "").encode("latin-1", "replace").strip()
        self._delimiter = b""
        self._buffer = bytearray()
        self._place = _Place.BETWEEN
        self._at_line_start = True
        self._length: int | None = None
        self._picture: JpegHeader | None = None
        self._searched = 0

    @property
    def held(self) -> int:
        """How many bytes are held."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the parts that they complete; raises MultipartError."""
        self._buffer += data
        parts = []
        while not self.finished and (part := self._next()) is not None:
            parts.append(part)
        if self.finished:
            self._buffer.clear()
        return parts

    def _next(self) -> bytes | None:
        """Return the next part; None until it is complete."""
        if self._place is _Place.BETWEEN and not self._pass_delimiter():
            return None
        if self._place is _Place.HEADER and not self._pass_header():
            return None
        end = self._end()
        surely_longer = len(self._buffer) > self._most_bytes + self._lookahead
        if surely_longer if end is None else end > self._most_bytes:
            raise MultipartError(f"sends a picture of more than {self._most_bytes:,} bytes")
        if end is None:
            return None
        part = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._place, self._at_line_start = _Place.BETWEEN, True
        return part

    @property
    def _lookahead(self) -> int:
        """How many bytes behind a part tell whether a delimiter follows."""
        return len(self._delimiter) + _MOST_AFTER + len(b"\r\n")

    def _pass_delimiter(self) -> bool:
        """Drop everything up to the end of the next delimiter's line; return whether it was there."""
        if not self._delimiter and not self._learn_delimiter():
            return False
        found = self._find_delimiter(0)
        if found is None:
            superfluous = len(self._buffer) - self._lookahead
            if superfluous > 0:
                del self._buffer[:superfluous]
                self._at_line_start = False
            return False
        del self._buffer[: found.after]
        self.finished = found.closes
        self._place = _Place.HEADER
        return not found.closes

    def _learn_delimiter(self) -> bool:
        """Find the delimiter as it stands in the stream: the boundary with any dashes, or else a first line that begins with two."""
        first = True
        for line in self._buffer[:MOST_HEADER_BYTES].split(b"\n")[:-1]:
            bare = bytes(line.strip())
            if bare and (found := self._delimiter_of(bare, first=first)):
                self._delimiter = found
                return True
            first = first and not bare
        if len(self._buffer) >= MOST_HEADER_BYTES:
            raise MultipartError("sends no boundary between its pictures")
        return False

    def _delimiter_of(self, line: bytes, *, first: bool) -> bytes | None:
        core = self._boundary.strip(b"-")
        if line in (self._boundary, b"--" + self._boundary):
            return line
        if core and line.strip(b"-") == core:
            return line.rstrip(b"-")
        return line if first and line.startswith(b"--") and line.strip(b"-") else None

    def _find_delimiter(self, start: int) -> _Delimiter | None:
        """Find a delimiter that has a line of its own, from `start` on; None too while it is not sure."""
        buffer, needle = self._buffer, b"\n" + self._delimiter
        at_once = start == 0 and self._at_line_start and buffer.startswith(self._delimiter)
        place = -1 if at_once else buffer.find(needle, start)
        while place >= 0 or at_once:
            behind = place + len(needle)
            rest = bytes(buffer[behind : behind + _MOST_AFTER])
            if after := _AFTER.match(rest):
                begin = place - 1 if place > 0 and buffer[place - 1] == 0x0D else max(place, 0)
                return _Delimiter(begin, behind + after.end(), bool(after[1]))
            if len(rest) < _MOST_AFTER and b"\n" not in rest:
                return None
            place, at_once = buffer.find(needle, place + 1), False
        return None

    def _pass_header(self) -> bool:
        """Take what a part's header tells; return whether it was complete."""
        buffer = self._buffer
        if not buffer:
            return False
        end = 0
        if buffer[0] not in (0xFF, 0x89):  # a picture begins at once where there is no header
            head = bytes(buffer[:MOST_HEADER_BYTES])
            blank = _BLANK_LINE.search(head)
            if blank is None:
                if len(buffer) >= MOST_HEADER_BYTES:
                    raise MultipartError(f"sends a part's header of more than {MOST_HEADER_BYTES:,} bytes")
                return False
            end = blank.end()
        length = _LENGTH.search(bytes(buffer[:end]))
        self._length = int(length[1]) if length and int(length[1]) <= self._most_bytes else None
        del buffer[:end]
        self._place, self._at_line_start = _Place.PART, True
        self._picture, self._searched = None, 0
        return True

    def _end(self) -> int | None:
        """Return where the part ends; None while that is not sure."""
        delimiter = self._find_delimiter(max(0, self._searched - self._lookahead))
        if self._length is not None:
            end = self._end_by_length(self._length, delimiter)
            if end is not None or self._length is not None:
                self._searched = len(self._buffer)
                return end
        if self._picture is None:
            self._picture = jpeg_header(self._buffer)
        ends = [delimiter.begin] if delimiter else []
        if self._picture and (end := jpeg_end(self._buffer, self._picture, max(0, self._searched - 1))):
            ends.append(end)
        self._searched = len(self._buffer)
        return min(ends, default=None)

    def _end_by_length(self, length: int, delimiter: _Delimiter | None) -> int | None:
        """Return the end that the length gives, or an earlier delimiter; forget a length that proves wrong."""
        if delimiter and delimiter.begin < length:
            return delimiter.begin
        if len(self._buffer) >= length and self._whole(length):
            return length
        if len(self._buffer) < length + self._lookahead:
            return None
        behind = bytes(self._buffer[length : length + self._lookahead])
        if behind.lstrip(b"\r\n").startswith(self._delimiter):
            return length
        self._length, self._searched = None, 0
        return None

    def _whole(self, length: int) -> bool:
        """Return whether the first `length` bytes are a whole picture."""
        if self._buffer[max(0, length - len(_PNG_END)) : length] == _PNG_END:
            return True
        if self._picture is None:
            self._picture = jpeg_header(self._buffer)
        end = jpeg_end(self._buffer, self._picture) if self._picture else None
        return end is not None and end <= length
