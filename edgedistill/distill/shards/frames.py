"""The images of an index by their number: read at their offset in a local shard, by reading forward in any other."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from edgedistill.distill.images import STAND_IN, decode
from edgedistill.distill.shards.index import IMAGE_SUFFIXES, Shard
from edgedistill.distill.shards.urls import library, opened, path_of
from edgedistill.errors import DataError

MAX_BROKEN = 0.01  # the fraction of images that cannot be decoded above which a source is refused


def number_of(key: str) -> int:
    """Return the number that a sample's views are keyed by: 63 bits of its key's SHA-256, in whichever shard it lies."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


class Shards:
    """Frames of samples in shards, in the order of the index.

    Attributes:
        urls: the shards.
        shard_of: (N,) which shard each image lies in.
        numbers: (N,) int64, what the views of each image are keyed by: a function of its key alone.
        is_seekable: whether all shards can be read at any offset.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        samples = [sample for shard in shards for sample in shard.samples]
        self.urls = [shard.url for shard in shards]
        self.is_seekable = all(shard.seekable for shard in shards)
        self.shard_of = np.repeat(np.arange(len(shards)), [len(shard.samples) for shard in shards])
        self.numbers = np.array([number_of(sample.key) for sample in samples], np.int64)
        self._keys = np.array([sample.key.encode() for sample in samples])  # compact: a str a sample is shared badly between workers
        self._offsets = np.array([sample.offset for sample in samples], np.int64)
        self._sizes = np.array([sample.size for sample in samples], np.int64)
        self._broken: set[int] = set()
        self._held: dict[int, bytes] = {}
        self._cursor: tuple[int, int, Iterator[tuple[int, bytes]]] | None = None

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_cursor": None}  # each process reads on its own

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.decoded(index, self.encoded(index))

    def name(self, index: int) -> str:
        """Return the shard and the key of an image."""
        return f"{self.urls[self.shard_of[index]]}: {self._keys[index].decode()}"

    def fingerprint(self, index: int) -> bytes:
        """Return what an image is known by without reading it: its key and its number of bytes."""
        return self._keys[index] + b"\0%d\0" % self._sizes[index]

    def decoded(self, index: int, data: bytes) -> np.ndarray:
        """Return an image's bytes as (H, W, 3) uint8 BGR; `STAND_IN`, with a warning, for bytes that cannot be decoded.

        DataError when these are over 1 % of all images.
        """
        try:
            return decode(io.BytesIO(data), self.name(index))
        except DataError as error:
            self._broken.add(index)
            if len(self._broken) > MAX_BROKEN * len(self):
                raise DataError(f"{error}; {len(self._broken)} of {len(self)} images in the shards are like that (over 1 %)") from error
            warnings.warn(f"{error}; a grey image without a label stands in for it", stacklevel=2)
            return STAND_IN

    def encoded(self, index: int) -> bytes:
        """Return an image as its bytes in the shard."""
        if index in self._held:
            return self._held[index]
        if self.is_seekable:
            with path_of(self.urls[self.shard_of[index]]).open("rb") as stream:
                stream.seek(self._offsets[index])
                return stream.read(self._sizes[index])
        return self._forward(index)

    def _forward(self, index: int) -> bytes:
        """Read on to an image that lies ahead in its shard, or read the shard again from its start."""
        process, last, stream = self._cursor or (0, index, iter(()))
        if process != os.getpid() or last >= index or self.shard_of[last] != self.shard_of[index]:
            stream = self.stream(self.shard_of[index])
        for found, data in stream:
            if found == index:
                self._cursor = (os.getpid(), index, stream)
                return data
        raise DataError(f"{self.name(index)} is no longer there; the shard was changed while it was in use")

    def hold(self, indices: np.ndarray) -> None:
        """Keep the bytes of these images in memory, where they would have to be downloaded for each look at them."""
        wanted = set() if self.is_seekable else set(indices.tolist()) - set(self._held)
        for shard in sorted({int(self.shard_of[index]) for index in wanted}):
            self._held.update((index, data) for index, data in self.stream(shard) if index in wanted)

    def stream(self, shard: int) -> Iterator[tuple[int, bytes]]:
        """Yield the number and the bytes of each image in a shard, reading it once from start to end."""
        library()
        from webdataset.tariterators import group_by_keys, tar_file_expander

        first, last = np.searchsorted(self.shard_of, (shard, shard + 1))
        index_of = {number: first + place for place, number in enumerate(self.numbers[first:last].tolist())}
        with opened(self.urls[shard]) as source:
            for sample in group_by_keys(tar_file_expander([{"url": self.urls[shard], "stream": source}])):
                if (index := index_of.get(number_of(sample["__key__"]))) is not None:
                    yield int(index), next(sample[suffix] for suffix in sample if suffix in IMAGE_SUFFIXES)
