"""Video as RTP packets, as an RTSP camera sends it: JPEG (RFC 2435) from frames, and H.264 (RFC 6184) from a clip."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from http_camera_server import jpeg

CLOCK_HZ = 90_000
MOST_PACKET_BYTES = 1400
DELIMITER, FRAGMENT, SEQUENCE_SET, PICTURE_SET = 9, 28, 7, 8


class Video(Protocol):
    """Frames without an end, as packets' payloads."""

    payload_type: int

    def description(self) -> list[str]:
        """Return the lines of a session description that say how the payload is to be read."""

    def payloads(self, number: int, *, mode: str) -> list[bytes]:
        """Return the payloads of the frame of a number; with the modes "corrupt" and "broken", of one with such faults."""


def packets(video: Video, number: int, *, mode: str, sequence: int, timestamp: int) -> Iterator[bytes]:
    """Yield the RTP packets of a frame, the last of them marked."""
    found = video.payloads(number, mode=mode)
    for place, payload in enumerate(found):
        marked = 0x80 if place == len(found) - 1 else 0
        head = (0x80, video.payload_type | marked, (sequence + place) & 0xFFFF, timestamp & 0xFFFFFFFF, 0x1234)
        yield struct.pack(">BBHII", *head) + payload


class Picture(NamedTuple):
    """A JPEG as RFC 2435 takes it apart: `kind` is 0 for 4:2:2 and 1 for 4:2:0, `tables` are the quantization tables."""

    height: int
    width: int
    kind: int
    tables: bytes
    scan: bytes


def take_apart(data: bytes) -> Picture:
    """Return the parts of a baseline JPEG with the standard Huffman tables, its sides multiples of 8 and below 2048."""
    place, tables, height, width, kind = 2, b"", 0, 0, 0
    while True:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        body = data[place + 4 : place + 2 + length]
        if marker == 0xDB:
            tables += b"".join(body[start + 1 : start + 65] for start in range(0, len(body), 65))
        elif marker == 0xC0:
            height, width = struct.unpack(">HH", body[1:5])
            kind = {0x21: 0, 0x22: 1}[body[7]]
        elif marker == 0xDA:
            assert height % 8 == width % 8 == 0
            assert max(height, width) < 2048
            return Picture(height, width, kind, tables, data[place + 2 + length : -2])
        place += 2 + length


class Jpegs:
    """Frames, over and over, each as a JPEG whose tables come along (quality 255)."""

    payload_type = 26

    def __init__(self, frames: list[np.ndarray]) -> None:
        self._pictures = [take_apart(jpeg(frame)) for frame in frames]

    def description(self) -> list[str]:
        return []

    def payloads(self, number: int, *, mode: str) -> list[bytes]:
        picture = self._pictures[number % len(self._pictures)]
        if mode == "corrupt":
            noise = np.random.default_rng(number).integers(0, 255, len(picture.scan), np.uint8)
            picture = picture._replace(scan=noise.tobytes())
        if mode == "broken":
            picture = picture._replace(width=0)
        tables = struct.pack(">BBH", 0, 0, len(picture.tables)) + picture.tables
        found, offset = [], 0
        while offset < len(picture.scan):
            extra = tables if offset == 0 else b""
            piece = picture.scan[offset : offset + MOST_PACKET_BYTES - len(extra)]
            place = (0, offset.to_bytes(3, "big"), picture.kind, 255, picture.width // 8, picture.height // 8)
            found.append(struct.pack(">B3sBBBB", *place) + extra + piece)
            offset += len(piece)
        return found


class H264:
    """A clip of H.264 (Annex B, with delimiters), over and over, from its frame `first` on."""

    payload_type = 96

    def __init__(self, clip: bytes, *, first: int = 0) -> None:
        units = [unit for unit in re.split(b"\0\0\0?\1", clip) if unit]
        self._first, self._frames = first, [list[bytes]()]
        for unit in units:
            if unit[0] & 31 == DELIMITER:
                self._frames.append([])
            else:
                self._frames[-1].append(unit)
        self._frames = [frame for frame in self._frames if frame]
        self._sets = [next(unit for unit in units if unit[0] & 31 == kind) for kind in (SEQUENCE_SET, PICTURE_SET)]

    def description(self) -> list[str]:
        sets = ",".join(base64.b64encode(unit).decode() for unit in self._sets)
        profile = self._sets[0][1:4].hex()
        parameters = f"packetization-mode=1;profile-level-id={profile};sprop-parameter-sets={sets}"
        return ["a=rtpmap:96 H264/90000", f"a=fmtp:96 {parameters}"]

    def payloads(self, number: int, *, mode: str) -> list[bytes]:
        found: list[bytes] = []
        for unit in self._frames[(self._first + number) % len(self._frames)]:
            if mode in ("corrupt", "broken"):
                unit = unit[: 1 if mode == "broken" else 3] + bytes(byte ^ 0x5A for byte in unit[3:])
            found += fragments(unit)
        return found


def fragments(unit: bytes) -> list[bytes]:
    """Return a unit as it is, or in pieces if it is too long for one packet."""
    if len(unit) <= MOST_PACKET_BYTES:
        return [unit]
    pieces = [unit[start : start + MOST_PACKET_BYTES - 2] for start in range(1, len(unit), MOST_PACKET_BYTES - 2)]
    last = len(pieces) - 1
    indicator, kind = unit[0] & 0xE0 | FRAGMENT, unit[0] & 31
    return [bytes([indicator, kind | 0x80 * (place == 0) | 0x40 * (place == last)]) + piece for place, piece in enumerate(pieces)]
