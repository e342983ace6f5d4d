"""Batches of views in an order that is a pure function of (seed, epoch): any number of workers, any point of resuming."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from edgedistill.bundle import Preprocess
from edgedistill.distill.images import STAND_IN, ImageSet
from edgedistill.distill.losses.batch import UNLABELLED
from edgedistill.distill.shards.frames import Shards
from edgedistill.distill.shards.order import stream_order
from edgedistill.distill.shards.stream import ShardStream
from edgedistill.distill.views import ViewKey, make_view, mix, mixes, mixing, partner_of
from edgedistill.recipe import Augment


class View(NamedTuple):
    """One view, (H, W, 3) uint8 RGB, with its label, its position in the image set, and its image's number and split in the source."""

    pixels: np.ndarray
    label: int
    position: int
    number: int
    other_label: int
    share: float
    origin: str = "train"


class ViewBatch(NamedTuple):
    """Views of several images.

    views: (N, H, W, 3) uint8 RGB; labels: (N,) int64, -1 without a label; positions: (N,) int64, where in the image set each
    view is from; numbers: (N,) int64, the image's number in its source; other_labels and share: (N,) int64 and float32, of
    mixed views: the label of the second image, and how much of the view is the first; origin: the source's split they are from.
    """

    views: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    numbers: torch.Tensor
    other_labels: torch.Tensor
    share: torch.Tensor
    origin: str = "train"


class Views(Dataset[View]):
    """The augmented views of one view number, by position in the image set."""

    def __init__(self, images: ImageSet, *, seed: int, view: int, augment: Augment, spec: Preprocess) -> None:
        self.images, self.seed, self.view, self.augment, self.spec = images, seed, view, augment, spec

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> View:
        return self.of(self.images.frame(position), position)

    def of(self, frame_bgr: np.ndarray, position: int) -> View:
        """Return the view of a position, whose frame is at hand."""
        label, pixels = self._label(frame_bgr, position), self._plain(frame_bgr, position)
        other_label, share = label, 1.0
        if mixes(self.augment):
            rng = mixing(self._key(position))
            partner = partner_of(position, len(self), rng)
            other_bgr = self.images.frame(partner)
            pixels, share = mix(pixels, self._plain(other_bgr, partner), rng, self.augment)
            other_label = self._label(other_bgr, partner)
        return View(pixels, label, position, int(self.images.numbers[position]), other_label, share, self.images.origin)

    def _label(self, frame_bgr: np.ndarray, position: int) -> int:
        """Return a position's label; the image that stands in for one that cannot be decoded has none."""
        return UNLABELLED if frame_bgr is STAND_IN else int(self.images.labels[position])

    def _key(self, position: int) -> ViewKey:
        # keyed by the image's number in its source, so that a view does not change with the subset that is trained on
        return ViewKey(self.seed, self.view, int(self.images.numbers[position]))

    def _plain(self, frame_bgr: np.ndarray, position: int) -> np.ndarray:
        """Return a position's view of its own image only."""
        return make_view(frame_bgr, self._key(position), augment=self.augment, spec=self.spec).copy()


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
        self.batch_size, self.seed, self.epoch, self.start, self.share = batch_size, seed, epoch, start, share
        self.batches = self.cut(np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64))).permutation(size))

    def cut(self, order: np.ndarray) -> list[list[int]]:
        """Return this process's share of the whole batches of positions in their order, from batch `start` on."""
        size, share = self.batch_size, self.share
        batches = [order[i * size : (i + 1) * size] for i in range(self.start, len(order) // size)]
        mine = [batch[share.rank :: share.processes] for batch in batches]
        return [batch[piece :: share.pieces].tolist() for batch in mine for piece in range(share.pieces)]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def collate(items: list[View]) -> ViewBatch:
    """Stack single views into a batch."""
    pixels, labels, positions, numbers, other_labels, share, origins = zip(*items, strict=True)
    return ViewBatch(
        views=torch.from_numpy(np.stack(pixels)),
        labels=torch.tensor(labels),
        positions=torch.tensor(positions),
        numbers=torch.tensor(numbers),
        other_labels=torch.tensor(other_labels),
        share=torch.tensor(share, dtype=torch.float32),
        origin=origins[0],
    )


def load(views: Views, order: EpochOrder | Sequence[list[int]], *, workers: int) -> DataLoader[ViewBatch]:
    """Return a loader over an epoch's order, or over any batches of positions; they are the same for any number of workers.

    An epoch of images in shards is brought into an order that a stream can deliver, and is streamed from shards that cannot be
    read at any place. Other batches are read from these by one worker, and best in ascending order.
    """
    # a generator of its own: otherwise each new loader draws from the global state, and a resumed run would differ
    generator = torch.Generator().manual_seed(0)
    batches = order.batches if isinstance(order, EpochOrder) else order
    frames = views.images.frames
    if isinstance(frames, Shards) and isinstance(order, EpochOrder):
        stream = stream_order(views.images, order.batch_size, seed=order.seed, epoch=order.epoch)
        batches = order.cut(stream.positions)
        if not frames.is_seekable:
            data = ShardStream(views.images, batches, order=stream, make=partial(streamed, views))
            return DataLoader(data, batch_size=None, num_workers=workers, generator=generator)
    if isinstance(frames, Shards) and not frames.is_seekable:
        workers = min(workers, 1)
    return DataLoader(views, batch_sampler=batches, num_workers=workers, collate_fn=collate, generator=generator)  # type: ignore[arg-type]


def streamed(views: Views, positions: list[int], frames: list[np.ndarray]) -> ViewBatch:
    """Return a batch of views whose frames came from a stream."""
    return collate([views.of(frame, position) for frame, position in zip(frames, positions, strict=True)])
