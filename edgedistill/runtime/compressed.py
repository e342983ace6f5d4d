"""JPEG and PNG as bytes from the network: their size, where they end, and decoding that no header can talk into taking all memory."""

from __future__ import annotations

import struct
from typing import NamedTuple

import cv2
import numpy as np

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_END = b"\xff\xd9"
#: Start-of-frame markers: C0 to CF without DHT, JPG and DAC.
_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN = 0xDA
#: Markers that stand alone, without a length.
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))
#: A header longer than this is none that a camera writes.
_MOST_HEADER = 2**20
#: A picture of more scans is made to keep a decoder busy; cameras write one, careful progressive encoders about ten.
MOST_SCANS = 64


class JpegHeader(NamedTuple):
    """What stands before a JPEG's first scan; `scan` is where the scan's marker is."""

    height: int
    width: int
    scan: int


def jpeg_header(data: bytes | bytearray) -> JpegHeader | None:
    """Return a JPEG's header; None where it is not complete, or is none."""
    size_hw, place, end = (0, 0), 2, min(len(data), _MOST_HEADER)
    while data[:3] == JPEG:
        # as decoders do, skip what stands between segments
        place = data.find(b"\xff", place, end)
        if place < 0 or place + 1 >= end:
            return None
        marker = data[place + 1]
        if marker in (0x00, 0xFF) or marker in _ALONE:
            place += 1 if marker == 0xFF else 2
        elif marker == _SCAN:
            return JpegHeader(*size_hw, place) if min(size_hw) > 0 else None
        elif place + 9 > end:
            return None
        else:
            if marker in _SIZES and size_hw == (0, 0):
                size_hw = struct.unpack(">HH", data[place + 5 : place + 9])
            place += 2 + max(2, int.from_bytes(data[place + 2 : place + 4], "big"))
    return None


def jpeg_end(data: bytes | bytearray, header: JpegHeader, start: int = 0) -> int | None:
    """Return the place behind a JPEG's end, looking from `start` on; None where it has no end yet."""
    found = data.find(_END, max(header.scan, start))
    return found + len(_END) if found >= 0 else None


def size_hw(data: bytes) -> tuple[int, int] | None:
    """Return height and width that a whole JPEG's or PNG's header gives; None for anything else, and for a JPEG without its end."""
    if data[:8] == PNG and data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return height, width
    header = jpeg_header(data)
    if header is None or jpeg_end(data, header) is None or data.count(b"\xff\xda", header.scan) > MOST_SCANS:
        return None
    return header.height, header.width


def decode(data: bytes, *, most_pixels: int) -> np.ndarray | None:
    """Decode a JPEG or PNG to (H, W, 3) uint8 BGR; None where it is broken, something else, or larger than `most_pixels`."""
    size = size_hw(data)
    if size is None or not 0 < size[0] * size[1] <= most_pixels:
        return None
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
