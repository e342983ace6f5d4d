"""A cache on the disk: FOLDER/FINGERPRINT/ with index.json, logits.bin, logits.done, and a pair of files for each kept feature.

index.json is written first and once, in one step with its folder; only the features' shapes are added to it later. Whoever uses a
cache holds FOLDER/locks/FINGERPRINT together with the other users, so that it is not removed meanwhile.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np

from edgedistill.bundle import write_atomically
from edgedistill.distill.cache import locks
from edgedistill.distill.cache.fingerprint import FORMAT, differences, fingerprint_of
from edgedistill.distill.cache.form import Form
from edgedistill.distill.cache.rows import Rows
from edgedistill.errors import DataError

INDEX, LOGITS = "index.json", "logits.bin"


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """index.json: what the files hold and what they were made from.

    features: the shape of each kept feature by its layer, without the batch dimension; recipe: the resolved recipe of the first
    training that used the cache, to build its teacher again.
    """

    format: int
    parts: dict[str, Any]
    images: int
    chunk: int
    form: Form
    teacher: dict[str, Any]
    recipe: dict[str, Any]
    features: dict[str, tuple[int, ...]] = {}


class Store:
    """An opened cache."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lock_of(path).parent.mkdir(exist_ok=True)
        self.in_use = locks.Shared(lock_of(path))
        self.reload()

    def reload(self) -> None:
        """Read the index."""
        self.index = read_index(self.path)
        self.logits = Rows(self.path / LOGITS, self.index.form.dtype, self.index.images)
        self.features = {name: self._feature(name, shape) for name, shape in self.index.features.items()}

    def _feature(self, name: str, shape: tuple[int, ...]) -> Rows:
        dtype = np.dtype([("feature", self.index.form.number, shape)])
        return Rows(self.path / f"feature-{quote(name, safe='')}.bin", dtype, self.index.images)

    def add_features(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Keep these layers' outputs, too."""
        with locks.exclusive(self.path / "index.lock"):
            self.reload()
            index = msgspec.structs.replace(self.index, features={**self.index.features, **shapes})
            write_atomically(self.path / INDEX, _encoded(index))
            self.reload()

    def reserve(self, views: int, layers: Mapping[str, Any] | tuple[str, ...] = ()) -> None:
        """Make room for `views` views of the logits and of these layers; DataError when the disk is too small."""
        files = [self.logits, *(self.features[name] for name in layers)]
        with locks.exclusive(self.path / "reserve.lock"):
            needed = sum(rows.lacking_bytes(views) for rows in files)
            free = shutil.disk_usage(self.path).free
            if needed > free:
                raise too_small(self.path, needed=needed, free=free)
            try:
                for rows in files:
                    rows.reserve(views)
            except OSError as error:
                raise too_small(self.path, needed=needed, free=shutil.disk_usage(self.path).free) from error

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.path.iterdir())

    def touch(self) -> None:
        """Note that the cache was used now."""
        os.utime(self.path / INDEX)


def open_or_create(folder: Path, index: Index) -> Store:
    """Open the cache of these parts, made if it does not exist; DataError for one that says to be of other parts."""
    path = folder / fingerprint_of(index.parts)
    (folder / "locks").mkdir(parents=True, exist_ok=True)
    in_use = locks.Shared(lock_of(path))
    if not path.exists():
        _create(path, index)
    store = Store(path)
    in_use.close()
    if store.index.parts != index.parts:
        wrong = "; ".join(differences(store.index.parts, index.parts))
        raise DataError(f"the cache {path} is of another teacher or of other views: {wrong}; {_remove(path)}")
    return store


def _create(path: Path, index: Index) -> None:
    """Make a folder with its index under a temporary name, then rename it; another process may be first."""
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=".new-"))
    try:
        (temporary / INDEX).write_bytes(_encoded(index))
        temporary.chmod(0o755)
        temporary.rename(path)
    except OSError:
        if not (path / INDEX).is_file():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_index(path: Path) -> Index:
    """Return a cache's index; DataError when it is broken or of another format."""
    try:
        index = msgspec.json.decode((path / INDEX).read_bytes(), type=Index)
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, an integer of thousands of digits, msgspec's own
        raise DataError(f"the cache {path} has no {INDEX} that can be read: {error}; {_remove(path)}") from error
    if index.format != FORMAT:
        raise DataError(f"the cache {path} has format {index.format}, expected {FORMAT}; {_remove(path)}")
    return index


def lock_of(path: Path) -> Path:
    """Return the file that whoever uses a cache has locked."""
    return path.parent / "locks" / path.name


def caches_in(folder: Path) -> Iterator[Path]:
    """Yield the folders of all caches."""
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if path.is_dir() and len(path.name) == 64)


def relatives(folder: Path, parts: Mapping[str, Any]) -> list[tuple[Path, list[str]]]:
    """Return the caches of the same data with what differs, those that differ least first."""
    found = []
    for path in caches_in(folder):
        try:
            theirs = read_index(path).parts
        except DataError:
            continue
        if theirs.get("data") == parts["data"] and theirs != parts:
            found.append((path, differences(parts, theirs)))
    return sorted(found, key=lambda item: len(item[1]))


def too_small(path: Path, *, needed: int, free: int) -> DataError:
    """Return the error of a disk that cannot hold a cache."""
    return DataError(
        f"the view cache {path} needs {size(needed)} more, {size(free)} are free ({needed} and {free} bytes): free some space (edgedistill "
        "cache prune), lower data.views, set cache.top_k, give another cache.folder, or set cache.enabled = false"
    )


def size(count: int) -> str:
    """Return a number of bytes for reading."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"


def _remove(path: Path) -> str:
    return f"remove it with: edgedistill cache prune {path.name}"


def _encoded(index: Index) -> bytes:
    return msgspec.json.format(msgspec.json.encode(index), indent=2) + b"\n"
