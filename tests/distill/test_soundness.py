"""Images are whole or not by their two ends."""

import io

import numpy as np
import pytest
from PIL import Image

from edgedistill.distill.soundness import END_BYTES, looks_whole


def encoded(suffix: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(stream, suffix, **options)
    return stream.getvalue()


def ends(data: bytes, size: int | None = None) -> bool:
    return looks_whole(data[:END_BYTES], data[-END_BYTES:], len(data) if size is None else size)


@pytest.mark.parametrize(
    ("suffix", "options"), [("jpeg", {}), ("jpeg", {"progressive": True}), ("png", {}), ("webp", {}), ("webp", {"lossless": True})]
)
def test_whole_images_are_whole_and_cut_ones_are_not(suffix: str, options: dict[str, object]) -> None:
    data = encoded(suffix, **options)
    assert ends(data)
    assert ends(data + b"\0\0")  # some cameras add a few bytes
    for part in (data[:-200], data[: len(data) // 2], data[:20], b"", bytes(len(data)), data[: len(data) // 2] + bytes(len(data) // 2)):
        assert not ends(part) or (suffix == "webp" and len(part) >= len(data) - 1)


@pytest.mark.parametrize("data", [b"<html>", b"GIF89a", b"II*\0", b"\xff", b"RIFF\0\0\0\0WAVE"])
def test_other_files_are_not(data: bytes) -> None:
    assert not ends(data)
