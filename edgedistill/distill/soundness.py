"""Whether an encoded image is whole, told from its two ends: what a broken download or a full disk leaves is not.

Damage inside of a file is found by decoding it only.
"""

from __future__ import annotations

END_BYTES = 64


def looks_whole(head: bytes, tail: bytes, size: int) -> bool:
    """Return whether the first and last bytes of a JPEG, PNG or WebP file of `size` bytes are what its format says."""
    if head.startswith(b"\xff\xd8"):
        return b"\xff\xd9" in tail
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" in tail
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return int.from_bytes(head[4:8], "little") + 8 <= size
    return False
