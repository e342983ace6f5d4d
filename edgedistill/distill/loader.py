"""Batches of views in an order that is a pure function of (seed, epoch): any number of workers, any point of resuming."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from edgedistill.bundle import Preprocess
from edgedistill.distill.images import ImageSet
from edgedistill.distill.views import ViewKey, make_view
from edgedistill.recipe import Augment


class View(NamedTuple):
    """One view, (H, W, 3) uint8 RGB, with its label, its position in the image set, and its image's number in the source."""

    pixels: np.ndarray
    label: int
    position: int
    number: int
    other_label: int
    share: float


class ViewBatch(NamedTuple):
    """Views of several images.

    views: (N, H, W, 3) uint8 RGB; labels: (N,) int64, -1 without a label; positions: (N,) int64, where in the image set each
    view is from; numbers: (N,) int64, the image's number in its source; other_labels and share: (N,) int64 and float32, of
    mixed views: the label of the second image, and how much of the view is the first.
    """

    views: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    numbers: torch.Tensor
    other_labels: torch.Tensor
    share: torch.Tensor


class Views(Dataset[View]):
    """The augmented views of one view number, by position in the image set."""

    def __init__(self, images: ImageSet, *, seed: int, view: int, augment: Augment, spec: Preprocess) -> None:
        self.images, self.seed, self.view, self.augment, self.spec = images, seed, view, augment, spec

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> View:
        # keyed by the image's index in its source, so that a view does not change with the subset that is trained on
        number, label = int(self.images.index[position]), int(self.images.labels[position])
        key = ViewKey(self.seed, self.view, number)
        pixels = make_view(self.images.frame(position), key, augment=self.augment, spec=self.spec)
        return View(pixels.copy(), label, position, number, label, 1.0)


class Share(NamedTuple):
    """Which part of each batch a process computes: the `rank`-th of `processes`, in `pieces` one after the other."""

    rank: int = 0
    processes: int = 1
    pieces: int = 1


class EpochOrder(Sampler[list[int]]):
    """The batches of one epoch, shuffled by (seed, epoch), from batch number `start` on; a last short batch is left out.

    Each process gets its share of every batch, so that all processes together see what one would.
    """

    def __init__(self, size: int, batch_size: int, *, seed: int, epoch: int, start: int = 0, share: Share = Share()) -> None:  # noqa: B008 (immutable)
        order = np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64))).permutation(size)
        batches = [order[i * batch_size : (i + 1) * batch_size] for i in range(start, size // batch_size)]
        mine = [batch[share.rank :: share.processes] for batch in batches]
        self.batches = [batch[piece :: share.pieces].tolist() for batch in mine for piece in range(share.pieces)]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def collate(items: list[View]) -> ViewBatch:
    """Stack single views into a batch."""
    pixels, labels, positions, numbers, other_labels, share = zip(*items, strict=True)
    return ViewBatch(
        views=torch.from_numpy(np.stack(pixels)),
        labels=torch.tensor(labels),
        positions=torch.tensor(positions),
        numbers=torch.tensor(numbers),
        other_labels=torch.tensor(other_labels),
        share=torch.tensor(share, dtype=torch.float32),
    )


def load(views: Views, order: Iterable[list[int]], *, workers: int) -> DataLoader[ViewBatch]:
    """Return a loader over `order`; the batches are the same for any number of workers."""
    # a generator of its own: otherwise each new loader draws from the global state, and a resumed run would differ
    generator = torch.Generator().manual_seed(0)
    return DataLoader(views, batch_sampler=order, num_workers=workers, collate_fn=collate, generator=generator)  # type: ignore[arg-type]
