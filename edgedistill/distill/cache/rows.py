"""One file of answers, a row for each (view, image), read through a memory map; beside it one flag for each (view, chunk of images).

A chunk's rows are on the disk before its flag is set, so a fill that was killed goes on at the first chunk without a flag.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from edgedistill.errors import DataError

#: Images whose answers are written, and flagged, together.
CHUNK = 256


class Rows:
    """The rows of `images` images by view; `path` has the rows, the same name with .done the flags."""

    def __init__(self, path: Path, dtype: np.dtype, images: int) -> None:
        self.path, self.dtype, self.images = path, dtype, images
        self.flags = path.with_suffix(".done")
        self.chunks = -(-images // CHUNK)
        self.view_bytes = dtype.itemsize * images
        self._map: np.ndarray | None = None

    @property
    def views(self) -> int:
        """The number of views that there is room for; DataError when the files cannot be what they should."""
        held = self.path.stat().st_size if self.path.exists() else 0
        flags = self.flags.stat().st_size if self.flags.exists() else 0
        views, rest = divmod(flags, self.chunks)
        if rest or held < views * self.view_bytes:
            raise DataError(
                f"the cache {self.path.parent} is damaged: {self.path.name} has {held} bytes and {self.flags.name} {flags} flags, expected "
                f"{self.view_bytes} bytes and {self.chunks} flags a view; remove it with: edgedistill cache prune {self.path.parent.name}"
            )
        return views

    def lacking_bytes(self, views: int) -> int:
        """Return how much more disk `views` views take."""
        held = self.path.stat().st_size if self.path.exists() else 0
        return max(0, views * self.view_bytes - held)

    def reserve(self, views: int) -> None:
        """Make room for `views` views on the disk, so that it cannot run full in the middle of a fill; earlier views stay."""
        if self.views >= views:
            return
        for path, size in ((self.path, views * self.view_bytes), (self.flags, views * self.chunks)):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                _allocate(descriptor, size)
            finally:
                os.close(descriptor)

    def missing(self, view: int) -> np.ndarray:
        """Return the numbers of the chunks of a view that are not filled."""
        return np.flatnonzero(self._flags_of(view) == 0)

    def filled(self) -> int:
        """Return the number of views that are filled whole."""
        return sum(not len(self.missing(view)) for view in range(self.views))

    def _flags_of(self, view: int) -> np.ndarray:
        with self.flags.open("rb") as stream:
            stream.seek(view * self.chunks)
            return np.frombuffer(stream.read(self.chunks), np.uint8)

    def positions(self, chunk: int) -> range:
        """Return the positions of a chunk's images in the image set."""
        return range(chunk * CHUNK, min((chunk + 1) * CHUNK, self.images))

    def write(self, view: int, chunk: int, rows: np.ndarray) -> None:
        """Write a chunk's rows to the disk, then its flag."""
        positions = self.positions(chunk)
        assert rows.dtype == self.dtype, f"rows of {rows.dtype}, expected {self.dtype}"
        assert len(rows) == len(positions), f"{len(rows)} rows of a chunk of {len(positions)}"
        _write_at(self.path, view * self.view_bytes + positions[0] * self.dtype.itemsize, rows.tobytes())
        _write_at(self.flags, view * self.chunks + chunk, b"\1")

    def read(self, view: int, positions: np.ndarray) -> np.ndarray:
        """Return the rows of these images in one view, which must be filled."""
        if self._map is None or view >= len(self._map):
            self._map = np.memmap(self.path, self.dtype, mode="r", shape=(self.views, self.images))
        return self._map[view, positions]


def _allocate(descriptor: int, size: int) -> None:
    """Make a file `size` bytes long, with its blocks where the system can promise them."""
    held = os.fstat(descriptor).st_size
    if size <= held:
        return
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, held, size - held)
        except OSError:
            os.ftruncate(descriptor, held)
            raise
    else:
        os.ftruncate(descriptor, size)


def _write_at(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
