"""The order of an epoch over shards: what a stream can deliver, as a pure function of the index, the seed and the epoch.

The shards are put in a random order and their images cut into lanes of equal length. A batch is made from one lane, the next
batch from the next: a loader with W workers streams W-th of the lanes in each. A lane has several tracks, and each process of a
training takes its images from tracks of its own. Within a track images are shuffled over a window, which is what the stream
holds in memory. The order does not depend on the numbers of workers and processes, only who reads what does.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from edgedistill.distill.images import ImageSet
from edgedistill.distill.shards.frames import Shards

LANES, TRACKS = 8, 8
#: Images that all lanes together shuffle over, and so hold in memory in their encoded form.
WINDOW = 8192


class StreamOrder(NamedTuple):
    """An epoch's images by their position in the image set.

    positions: (steps * batch_size,) in the order in which the batches take them; place: (N,) where in the row of all shards each
    image lies; track: (N,) who reads it, -1 for an image that is in no whole batch.
    """

    positions: np.ndarray
    place: np.ndarray
    track: np.ndarray


def stream_order(images: ImageSet, batch_size: int, *, seed: int, epoch: int) -> StreamOrder:
    """Return the order of an epoch's whole batches."""
    assert isinstance(images.frames, Shards)
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64)))
    row = shuffled_shards(images.index, images.frames.shard_of[images.index], rng)
    shards, steps = len(np.unique(images.frames.shard_of[images.index])), len(row) // batch_size
    # a lane is no shorter than what is shuffled: few images are shuffled as a whole
    lanes = power_of_two(min(LANES, shards, steps, len(row) // WINDOW))
    tracks = power_of_two(min(TRACKS, shards // lanes, batch_size, len(row) // (WINDOW * lanes)))
    batches, track_of, start = np.empty((steps, batch_size), np.int64), np.full(len(row), -1), 0
    for lane, track in itertools.product(range(lanes), range(tracks)):
        slots = batches[lane::lanes, track::tracks]
        stored = row[start : start + slots.size]
        shifted = np.arange(len(stored)) + rng.uniform(0, WINDOW / (lanes * tracks), len(stored))
        batches[lane::lanes, track::tracks] = stored[np.argsort(shifted)].reshape(slots.shape)
        track_of[stored] = lane * tracks + track
        start += slots.size
    return StreamOrder(batches.ravel(), np.argsort(row), track_of)


def shuffled_shards(index: np.ndarray, shard_of: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return all positions as they lie in the shards, shard after shard in a random order."""
    rank = rng.permutation(int(shard_of.max(initial=0)) + 1)
    return np.lexsort((index, rank[shard_of]))


def power_of_two(limit: int) -> int:
    """Return the largest power of two up to a limit, at least 1."""
    return 1 << max(0, limit.bit_length() - 1)
