"""Training images from shards that cannot be read at any place: each worker streams the shards of its own batches, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from edgedistill.distill.images import ImageSet
from edgedistill.distill.shards.frames import Shards
from edgedistill.distill.shards.order import StreamOrder
from edgedistill.errors import DataError

Batch = TypeVar("Batch")


class ShardStream(IterableDataset[Batch], Generic[Batch]):
    """Batches of an image set over shards, the i-th of them from worker i mod workers.

    Args:
        batches: positions in the image set, as `order` has them, from the first batch that is wanted on.
        make: makes a batch of its positions and their frames.
    """

    def __init__(
        self, images: ImageSet, batches: Sequence[list[int]], *, order: StreamOrder, make: Callable[[list[int], list[np.ndarray]], Batch]
    ) -> None:
        self.images, self.batches, self.order, self.make = images, batches, order, make

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        mine = self.batches if worker is None else self.batches[worker.id :: worker.num_workers]
        wanted = np.array([position for batch in mine for position in batch], np.int64)
        track_of = self.order.track
        tracks = {
            int(track): Track(self.images, self._as_stored(wanted[track_of[wanted] == track])) for track in np.unique(track_of[wanted])
        }
        for batch in mine:
            yield self.make(batch, [tracks[track_of[position]].take(position) for position in batch])

    def _as_stored(self, positions: np.ndarray) -> np.ndarray:
        return positions[np.argsort(self.order.place[positions])]


class Track:
    """Images that lie one after the other, read once; what is passed before it is asked for is kept until then.

    Args:
        stored: positions of all images that will be asked for, in the order in which they lie in the shards.
    """

    def __init__(self, images: ImageSet, stored: np.ndarray) -> None:
        assert isinstance(images.frames, Shards)
        self._shards, self._index = images.frames, images.index
        self._passed: dict[int, bytes] = {}
        self._stream = self._read(self._index[stored])

    def take(self, position: int) -> np.ndarray:
        """Return the frame of a position, (H, W, 3) uint8 BGR, and forget it."""
        index = int(self._index[position])
        while index not in self._passed:
            found, data = next(self._stream, (-1, b""))
            if found < 0:
                raise DataError(f"{self._shards.name(index)} is no longer there; the shard was changed while it was in use")
            self._passed[found] = data
        return self._shards.decoded(index, self._passed.pop(index))

    def _read(self, stored: np.ndarray) -> Iterator[tuple[int, bytes]]:
        shard_of, wanted = self._shards.shard_of[stored], set(stored.tolist())
        for shard in dict.fromkeys(shard_of.tolist()):
            left = int((shard_of == shard).sum())
            for index, data in self._shards.stream(shard):
                if index in wanted:
                    yield index, data
                    left -= 1
                if left == 0:
                    break
