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


class ViewBatch(NamedTuple):
    """views: (N, H, W, 3) uint8 RGB; labels: (N,) int64; positions: (N,) int64, where in the image set each view is from."""

    views: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor


class Views(Dataset[tuple[np.ndarray, int, int]]):
    """The augmented views of one view number, by position in the image set."""

    def __init__(self, images: ImageSet, *, seed: int, view: int, augment: Augment, spec: Preprocess) -> None:
        self.images, self.seed, self.view, self.augment, self.spec = images, seed, view, augment, spec

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> tuple[np.ndarray, int, int]:
        # keyed by the image's index in its source, so that a view does not change with the subset that is trained on
        key = ViewKey(self.seed, self.view, int(self.images.index[position]))
        view = make_view(self.images.frame(position), key, augment=self.augment, spec=self.spec)
        return view.copy(), int(self.images.labels[position]), position


class EpochOrder(Sampler[list[int]]):
    """The batches of one epoch, shuffled by (seed, epoch), from batch number `start` on; a last short batch is left out."""

    def __init__(self, size: int, batch_size: int, *, seed: int, epoch: int, start: int = 0) -> None:
        order = np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64))).permutation(size)
        self.batches = [order[i * batch_size : (i + 1) * batch_size].tolist() for i in range(start, size // batch_size)]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def collate(items: list[tuple[np.ndarray, int, int]]) -> ViewBatch:
    """Stack single views into a batch."""
    views, labels, positions = zip(*items, strict=True)
    return ViewBatch(torch.from_numpy(np.stack(views)), torch.tensor(labels), torch.tensor(positions))


def load(views: Views, order: Iterable[list[int]], *, workers: int) -> DataLoader[ViewBatch]:
    """Return a loader over `order`; the batches are the same for any number of workers."""
    # a generator of its own: otherwise each new loader draws from the global state, and a resumed run would differ
    generator = torch.Generator().manual_seed(0)
    return DataLoader(views, batch_sampler=order, num_workers=workers, collate_fn=collate, generator=generator)  # type: ignore[arg-type]
