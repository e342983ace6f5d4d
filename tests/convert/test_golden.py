"""The golden pair: frames of one size, and what each file answers to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_bundle

from edgedistill import bundle
from edgedistill.convert.golden import golden_frames, write_golden
from edgedistill.runtime import predict_logits


def test_the_pair_is_what_the_files_answer(tmp_path: Path) -> None:
    loaded = bundle.load(tiny_bundle.make(tmp_path / "tiny"))
    frames = np.random.default_rng(0).integers(0, 256, (9, 24, 32, 3), dtype=np.uint8)
    golden = write_golden(loaded, frames)
    assert golden.sha256 == bundle.sha256_of(loaded.path / golden.file)
    with np.load(loaded.path / golden.file) as pair:
        assert set(pair) == {"frames_bgr", *(f"logits/{name}" for name in tiny_bundle.FILES)}
        assert np.array_equal(pair["frames_bgr"], frames[[0, 3, 5, 8]])
        for name in tiny_bundle.FILES:
            assert pair[f"logits/{name}"].dtype == np.float32
            assert np.array_equal(pair[f"logits/{name}"], predict_logits(loaded, pair["frames_bgr"], file=name))


def test_the_same_frames_give_the_same_file(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), dtype=np.uint8)
    loaded = bundle.load(tiny_bundle.make(tmp_path / "tiny"))
    assert write_golden(loaded, frames) == write_golden(loaded, frames)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(24, 32)] * 4, (24, 32)),
        ([(24, 32), (480, 640), (10, 10), (7, 1)], (24, 32)),
        ([(1200, 1600)] * 4, (480, 640)),
        ([(3000, 100)] * 5, (640, 21)),
        ([(10_000, 3)] * 4, (640, 1)),
        ([(28, 28)], (28, 28)),
    ],
)
def test_frames_come_to_one_size_of_at_most_640_pixels(sizes: list, expected: tuple) -> None:
    frames = golden_frames([np.full((*size, 3), 7, np.uint8) for size in sizes])
    assert frames.shape == (4, *expected, 3)
    assert (frames == 7).all()
