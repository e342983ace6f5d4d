"""Batches do not depend on workers, on the point of resuming or on the subset."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from edgedistill.bundle import Preprocess
from edgedistill.distill.images import GreyArray, ImageSet
from edgedistill.distill.loader import EpochOrder, ViewBatch, Views, load
from edgedistill.recipe import Augment

SPEC = Preprocess(height=12, width=12)
AUGMENT = Augment(flip=True, shift=0.2, noise=0.1)


def images(count: int = 40) -> ImageSet:
    pixels = np.random.default_rng(1).integers(0, 256, (count, 12, 12), np.uint8)
    return ImageSet.of(GreyArray(pixels), np.arange(count) % 4, ["a", "b", "c", "d"])


def batches(data: ImageSet, *, workers: int = 0, start: int = 0, epoch: int = 0) -> list[ViewBatch]:
    views = Views(data, seed=7, view=epoch, augment=AUGMENT, spec=SPEC)
    return list(load(views, EpochOrder(len(data), 8, seed=7, epoch=epoch, start=start), workers=workers))


def assert_same(first: list[ViewBatch], second: list[ViewBatch]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a[:-1], b[:-1], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_batches(workers: int) -> None:
    """In a process of its own: workers are forked, and other tests' converters leave threads here."""
    script = f"import test_loader as t; t.assert_same(t.batches(t.images()), t.batches(t.images(), workers={workers}))"
    subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=Path(__file__).parent, check=True)


@pytest.mark.parametrize("start", [0, 1, 4, 5])
def test_resuming_in_the_middle_of_an_epoch_gives_the_rest_of_it(start: int) -> None:
    assert_same(batches(images())[start:], batches(images(), start=start))


def test_every_image_is_seen_once_an_epoch() -> None:
    seen = torch.cat([batch.positions for batch in batches(images())])
    assert sorted(seen.tolist()) == list(range(40))


def test_a_short_last_batch_is_left_out() -> None:
    assert len(EpochOrder(39, 8, seed=0, epoch=0)) == 4


def test_epochs_differ_in_order_and_in_views() -> None:
    first, second = batches(images()), batches(images(), epoch=1)
    assert first[0].positions.tolist() != second[0].positions.tolist()
    by_position = {int(p): v for batch in second for p, v in zip(batch.positions, batch.views, strict=True)}
    same = [torch.equal(v, by_position[int(p)]) for batch in first for p, v in zip(batch.positions, batch.views, strict=True)]
    assert not any(same)


def test_labels_belong_to_their_views() -> None:
    data = images()
    for batch in batches(data):
        assert batch.labels.tolist() == data.labels[batch.positions.numpy()].tolist()


def test_a_view_does_not_change_with_the_subset() -> None:
    data = images()
    subset = data.take(np.array([30, 5]))
    whole = Views(data, seed=7, view=3, augment=AUGMENT, spec=SPEC)
    part = Views(subset, seed=7, view=3, augment=AUGMENT, spec=SPEC)
    assert np.array_equal(part[0][0], whole[30][0])
    assert np.array_equal(part[1][0], whole[5][0])
