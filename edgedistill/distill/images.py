"""Labelled images in memory or in files: what the data sources hand to training and evaluation. Free of torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Protocol, runtime_checkable

import cv2
import numpy as np
from PIL import Image

from edgedistill.errors import DataError

#: What is shown in place of an image that turns out to be broken when it is too late to leave it out.
STAND_IN = np.full((64, 64, 3), 128, np.uint8)
STAND_IN.flags.writeable = False


class Frames(Protocol):
    """Images by index, each (H, W, 3) uint8 in BGR order."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...


class GreyArray:
    """Frames of one array of grey images, (N, H, W) uint8."""

    def __init__(self, images: np.ndarray) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> np.ndarray:
        return cv2.cvtColor(self._images[index], cv2.COLOR_GRAY2BGR)


@runtime_checkable
class Keyed(Protocol):
    """Frames whose views are keyed by `numbers`, (N,) int64, instead of their places."""

    numbers: np.ndarray


@runtime_checkable
class Fingerprinted(Protocol):
    """Frames that are known by something else than by reading their pixels."""

    def fingerprint(self, index: int, /) -> bytes: ...


class FileList:
    """Frames decoded from image files when they are asked for; `digests` has the `digest_of` each frame where they are known."""

    def __init__(self, paths: Sequence[Path], digests: Sequence[str] | None = None) -> None:
        self._paths, self._digests = list(paths), digests

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> np.ndarray:
        return decode_file(self._paths[index])

    def fingerprint(self, index: int) -> bytes:
        """Return the checksum of a frame, so that files need not be decoded again for the checksum of all."""
        return (self._digests[index] if self._digests is not None else digest_of(self[index])).encode()


class Joined:
    """Frames of one list after those of another."""

    def __init__(self, first: Frames, second: Frames) -> None:
        self._first, self._second = first, second
        shift = 0 if isinstance(second, Keyed) else len(first)
        self.numbers = np.concatenate([numbers_of(first), numbers_of(second) + shift])

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def __getitem__(self, index: int) -> np.ndarray:
        frames, place = self.at(index)
        return frames[place]

    def fingerprint(self, index: int) -> bytes:
        """Return what the list that an index lies in knows the frame by."""
        return fingerprint_of(*self.at(index))

    def at(self, index: int) -> tuple[Frames, int]:
        """Return the list that an index lies in, and the place there."""
        return (self._first, index) if index < len(self._first) else (self._second, index - len(self._first))


def decode_file(path: Path) -> np.ndarray:
    """Return an image file as (H, W, 3) uint8 BGR; DataError for one that is broken or cut short."""
    return decode(path, str(path))


def decode(source: Path | IO[bytes], name: str) -> np.ndarray:
    """Return an encoded image as (H, W, 3) uint8 BGR; DataError, with its name, for one that is broken or cut short."""
    try:
        with Image.open(source) as image:
            return np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be decoded ({error}); remove it or replace it") from error


def numbers_of(frames: Frames) -> np.ndarray:
    """Return the (N,) int64 numbers that views of these frames are keyed by."""
    return frames.numbers if isinstance(frames, Keyed) else np.arange(len(frames))


def fingerprint_of(frames: Frames, index: int) -> bytes:
    """Return the bytes that a frame is known by: its shape and pixels, or what its source takes for them."""
    if isinstance(frames, Fingerprinted):
        return frames.fingerprint(index)
    frame = frames[index]
    return str(frame.shape).encode() + frame.tobytes()


def digest_of(frame: np.ndarray) -> str:
    """Return the SHA-256 of a frame's shape and pixels."""
    return hashlib.sha256(str(frame.shape).encode() + frame.tobytes()).hexdigest()


@dataclass(frozen=True)
class ImageSet:
    """Images with their labels; `labels` is (N,) int64, an index into `classes`, or -1 for an image without a label.

    `origin` names the source's split that the frames are from: "train" also for images that were carved out of it.
    """

    frames: Frames
    labels: np.ndarray
    classes: tuple[str, ...]
    index: np.ndarray
    origin: str = "train"

    @classmethod
    def of(cls, frames: Frames, labels: np.ndarray, classes: Sequence[str]) -> ImageSet:
        """Make a set of all frames; `labels` has one entry a frame."""
        if len(frames) != len(labels):
            raise DataError(f"{len(frames)} images but {len(labels)} labels; both must be of one length")
        return cls(frames, labels.astype(np.int64), tuple(classes), np.arange(len(labels)))

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.frame(i) for i in range(len(self)))

    def frame(self, position: int) -> np.ndarray:
        """Return image number `position` of this set, (H, W, 3) uint8 BGR."""
        return self.frames[int(self.index[position])]

    @cached_property
    def numbers(self) -> np.ndarray:
        """(N,) int64: what the views of each image are keyed by, so that they do not change with the subset."""
        return numbers_of(self.frames)[self.index]

    def take(self, positions: np.ndarray) -> ImageSet:
        """Return the set of these positions, in their order."""
        return replace(self, index=self.index[positions], labels=self.labels[positions])

    def followed_by(self, other: ImageSet) -> ImageSet:
        """Return this set's images and then the other's; the other's numbers go on where this source's frames end."""
        index = np.concatenate([self.index, other.index + len(self.frames)])
        return ImageSet(Joined(self.frames, other.frames), np.concatenate([self.labels, other.labels]), self.classes, index)

    def in_order_of(self, classes: Sequence[str]) -> ImageSet:
        """Return the set with its labels numbered by another order of the same class names."""
        number = np.array([list(classes).index(name) for name in self.classes])
        return replace(self, labels=number[self.labels], classes=tuple(classes))

    def balanced(self, limit: int | None) -> ImageSet:
        """Return at most `limit` images, spread evenly over the classes, the same ones on every call."""
        if limit is None or limit >= len(self):
            return self
        return self.take(np.sort(_round_robin(self.labels, len(self.classes))[:limit]))

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of every label and class name and of what each image is known by, in order.

        That is the pixels, but in shards the key and the number of bytes: their pixels are too many to be read for this.
        """
        digest = hashlib.sha256("\0".join(self.classes).encode())
        digest.update(self.labels.tobytes())
        for index in self.index.tolist():
            digest.update(fingerprint_of(self.frames, index))
        return digest.hexdigest()


def split_off(images: ImageSet, fraction: float) -> tuple[ImageSet, ImageSet]:
    """Return (rest, held out): `fraction` of each class is held out, at least one image a class, the same ones on every call."""
    held: list[np.ndarray] = []
    rng = np.random.Generator(np.random.Philox(0))
    for label in range(len(images.classes)):
        members = rng.permutation(np.flatnonzero(images.labels == label))
        if len(members) < 2:
            raise DataError(
                f"class {images.classes[label]!r} has {len(members)} images; at least 2 are needed to hold one out for validation"
            )
        held.append(members[: min(len(members) - 1, max(1, round(len(members) * fraction)))])
    positions = np.sort(np.concatenate(held))
    return images.take(np.setdiff1d(np.arange(len(images)), positions)), images.take(positions)


def _round_robin(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return all positions so that each prefix has the classes as even as can be; shuffled within a class."""
    rng = np.random.Generator(np.random.Philox(0))
    members = [rng.permutation(np.flatnonzero(labels == label)) for label in range(classes)]
    ranked = [(rank, label, position) for label, positions in enumerate(members) for rank, position in enumerate(positions)]
    return np.array([position for _, _, position in sorted(ranked)])
