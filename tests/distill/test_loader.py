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


MIXED = Augment(flip=True, shift=0.2, noise=0.1, mixup=0.4, cutmix=1.0)


def mixed_views(data: ImageSet, view: int = 3) -> Views:
    return Views(data, seed=7, view=view, augment=MIXED, spec=SPEC)


def mixed_batches(data: ImageSet, *, workers: int) -> list[ViewBatch]:
    return list(load(mixed_views(data), EpochOrder(len(data), 8, seed=7, epoch=0), workers=workers))


@pytest.mark.slow
def test_mixed_views_are_the_same_in_any_number_of_workers() -> None:
    script = "import test_loader as t; t.assert_same(t.mixed_batches(t.images(), workers=0), t.mixed_batches(t.images(), workers=2))"
    subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=Path(__file__).parent, check=True)


def test_a_mixed_view_tells_its_second_label_and_its_share() -> None:
    data = images()
    views = [mixed_views(data)[i] for i in range(40)]
    assert any(view.label != view.other_label for view in views)
    assert all(0 <= view.share <= 1 for view in views)
    assert len({view.share for view in views}) > 20
    again = [mixed_views(data)[i] for i in reversed(range(40))][::-1]
    assert all(np.array_equal(a.pixels, b.pixels) and a[1:] == b[1:] for a, b in zip(views, again, strict=True))
    assert not np.array_equal(views[0].pixels, mixed_views(data, view=4)[0].pixels)


def test_a_partner_without_a_label_has_none() -> None:
    data = images()
    data = ImageSet.of(data.frames, np.where(np.arange(40) % 2, data.labels, -1), data.classes)
    views = [mixed_views(data)[i] for i in range(40)]
    assert {(view.label < 0, view.other_label < 0) for view in views} == {(a, b) for a in (True, False) for b in (True, False)}


def test_a_view_that_is_not_mixed_has_its_own_label_twice() -> None:
    view = Views(images(), seed=7, view=0, augment=AUGMENT, spec=SPEC)[5]
    assert (view.label, view.other_label, view.share) == (1, 1, 1.0)
