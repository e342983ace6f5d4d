"""The data sources that a recipe's `data.source` can name, and the split into train, validation and test.

A new source is a function and a line in `SOURCES`. Free of torch; torchvision is imported by its own source only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgedistill.distill.checked_files import check
from edgedistill.distill.images import FileList, GreyArray, ImageSet, split_off
from edgedistill.distill.shards.frames import MAX_BROKEN, Shards
from edgedistill.distill.shards.source import open_shards, open_unlabelled
from edgedistill.errors import DataError, MissingExtraError, RecipeError, close_matches
from edgedistill.recipe import Data

EMBEDDED_FILE = Path(__file__).parents[2] / "models" / "data" / "fashion-mnist-12k.npz"
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
LICENCES = {"FashionMNIST": "MIT"}


class Source(NamedTuple):
    """What a source has: `validation` and `test` are None where it has no such split of its own."""

    train: ImageSet
    validation: ImageSet | None
    test: ImageSet | None
    licence: str
    skipped: tuple[str, ...] = ()


class Splits(NamedTuple):
    """Three sets without a common image, and further training images without labels; `skipped` names undecodable files."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    licence: str
    skipped: tuple[str, ...]
    unlabelled: ImageSet | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the labels."""
        return self.train.classes

    @property
    def sha256(self) -> str:
        """One SHA-256 over all sets."""
        parts = [self.train, self.validation, self.test] + ([self.unlabelled] if self.unlabelled is not None else [])
        return hashlib.sha256("".join(part.sha256 for part in parts).encode()).hexdigest()


def open_splits(data: Data) -> Splits:
    """Open the recipe's source and split it; a split that the source lacks is carved out of train, class by class."""
    kind, _, argument = data.source.partition(":")
    if kind not in SOURCES:
        known = ["embedded", "torchvision:NAME", "folder:PATH", "webdataset:SHARDS"]
        raise RecipeError(f"data.source: unknown source {data.source!r}.{close_matches(kind, SOURCES)} Known: {', '.join(known)}")
    source = SOURCES[kind](argument, data)
    train, validation, test = source.train, _from(source.validation, "validation"), _from(source.test, "test")
    if test is None:
        train, test = split_off(train, 0.2)
    if validation is None:
        train, validation = split_off(train, data.validation)
    limits = (train.balanced(data.train_limit), validation.balanced(data.test_limit), test.balanced(data.test_limit))
    unlabelled, skipped = _unlabelled(data.unlabelled, train.classes) if data.unlabelled else (None, [])
    if unlabelled is not None and data.unlabelled_limit and data.unlabelled_limit < len(unlabelled):
        unlabelled = unlabelled.take(np.arange(data.unlabelled_limit) * len(unlabelled) // data.unlabelled_limit)
    _check_streamed(data, limits[0], unlabelled)
    for held in limits[1:]:
        if isinstance(held.frames, Shards):
            held.frames.hold(held.index)
    return Splits(*limits, data.licence or source.licence, (*source.skipped, *skipped), unlabelled)


def _check_streamed(data: Data, train: ImageSet, unlabelled: ImageSet | None) -> None:
    """Raise RecipeError for what needs images at any place, where they come in a stream."""
    streamed = [images for images in (train, unlabelled) if images and isinstance(images.frames, Shards) and not images.frames.is_seekable]
    wanted = [name for name in ("mixup", "cutmix") if getattr(data.augment, name) > 0]
    if streamed and (wanted or unlabelled):
        what = f"data.augment.{wanted[0]}" if wanted else "data.unlabelled"
        raise RecipeError(
            f"{what} needs training images at any place, and compressed or remote shards are read from start to end only; "
            "copy the shards to this machine as plain tar files, or leave it out"
        )


def _from(images: ImageSet | None, origin: str) -> ImageSet | None:
    return replace(images, origin=origin) if images is not None else None


def _unlabelled(source: str, classes: Sequence[str]) -> tuple[ImageSet, list[str]]:
    """Open all images below a folder, in any sub-folders, or in shards, as images without labels."""
    kind, _, path = source.partition(":")
    if kind == "webdataset":
        return open_unlabelled(path, classes)
    if kind != "folder":
        raise RecipeError(f"data.unlabelled: unknown source {source!r}; write folder:PATH or webdataset:SHARDS")
    root = Path(path).expanduser()
    paths = _image_files(root) if root.is_dir() else []
    if not paths:
        raise DataError(f"data.unlabelled: {root} {'holds no images' if root.is_dir() else 'does not exist'}; give a folder with images")
    return _checked([(path, -1) for path in paths], root, classes)


def _image_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def embedded(argument: str, data: Data) -> Source:
    """Open the images that the checkout ships: 12,000 of Fashion-MNIST."""
    if not EMBEDDED_FILE.is_file():
        raise DataError(
            "the embedded images come with the source checkout, not with an installed wheel; "
            "use data.source = 'torchvision:FashionMNIST' or 'folder:PATH'"
        )
    with np.load(EMBEDDED_FILE, allow_pickle=False) as arrays:
        classes = [str(name) for name in arrays["classes"]]
        train, test = (ImageSet.of(GreyArray(arrays[f"{s}_images"]), arrays[f"{s}_labels"], classes) for s in ("train", "test"))
    return Source(train, None, test, "MIT")


class TorchvisionFrames:
    """Frames of a torchvision data set."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.ascontiguousarray(np.asarray(self._dataset[index][0].convert("RGB"))[:, :, ::-1])


def torchvision(argument: str, data: Data) -> Source:
    """Open a torchvision data set by class name, downloading it once if it is not under `data.root`."""
    try:
        from torchvision import datasets
    except ImportError as error:
        raise MissingExtraError("torchvision", "workstation") from error
    if argument not in datasets.__all__:
        raise RecipeError(f"data.source: torchvision has no data set {argument!r}.{close_matches(argument, datasets.__all__)}")
    root = Path(data.root).expanduser() if data.root else Path.home() / ".cache" / "edgedistill"
    try:
        train, test = (_open_torchvision(getattr(datasets, argument), root, train=train) for train in (True, False))
    except (OSError, RuntimeError, TypeError) as error:
        raise DataError(
            f"torchvision's {argument} cannot be opened or downloaded into {root}: {' '.join(str(error).split())}; "
            "check the network, put the files there by hand, or use folder:PATH"
        ) from error
    return Source(train, None, test, LICENCES.get(argument, "see the data set's own terms"))


def _open_torchvision(kind: Any, root: Path, *, train: bool) -> ImageSet:
    import inspect

    parameters = inspect.signature(kind).parameters
    split = {"train": train} if "train" in parameters else {"split": "train" if train else "test"}
    dataset = kind(root, **split, download=True)
    labels = next((getattr(dataset, name) for name in ("targets", "labels", "_labels") if hasattr(dataset, name)), None)
    if labels is None:
        labels = [label for _, label in dataset]
    array = np.asarray(labels, dtype=np.int64)
    classes = getattr(dataset, "classes", None) or [str(label) for label in range(int(array.max()) + 1)]
    return ImageSet.of(TorchvisionFrames(dataset), array, [str(name) for name in classes])


def folder(argument: str, data: Data) -> Source:
    """Open class folders: PATH/CLASS/*.jpg, or PATH/train, PATH/validation (or val) and PATH/test with class folders in each."""
    root = Path(argument).expanduser()
    if not root.is_dir():
        raise DataError(f"the data folder {root} does not exist; give a folder with one sub-folder of images a class")
    has_splits = (root / "train").is_dir()
    train, skipped = _class_folders(root / "train" if has_splits else root)
    others: dict[str, ImageSet] = {}
    for name in ("validation", "val", "test") if has_splits else ():
        if (root / name).is_dir():
            others[name], more = _class_folders(root / name, classes=train.classes)
            skipped += more
    validation = others.get("validation", others.get("val"))
    return Source(train, validation, others.get("test"), "unknown", tuple(skipped))


def _class_folders(root: Path, classes: Sequence[str] | None = None) -> tuple[ImageSet, list[str]]:
    found = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if classes is not None and found != list(classes):
        raise DataError(f"{root} has the classes {found}, the training folder has {list(classes)}; give both the same class folders")
    if len(found) < 2:
        raise DataError(f"{root} has {len(found)} class folders ({', '.join(found) or 'none'}); at least 2 are needed")
    paths = {name: _image_files(root / name) for name in found}
    if empty := [name for name in found if not paths[name]]:
        raise DataError(f"{root}: no images in class {', '.join(repr(name) for name in empty)}; add images or remove the folder")
    files = [(path, label) for label, name in enumerate(found) for path in paths[name]]
    return _checked(files, root, found)


def webdataset(argument: str, data: Data) -> Source:
    """Open tar shards: those whose file name begins with val or test are these splits, all others are for training."""
    splits, skipped = open_shards(argument)
    return Source(splits["train"], splits.get("validation"), splits.get("test"), "unknown", tuple(skipped))


def _checked(files: Sequence[tuple[Path, int]], root: Path, classes: Sequence[str]) -> tuple[ImageSet, list[str]]:
    """Return the images that can be decoded, and the names of the files that cannot; DataError for too many of these."""
    digests = check([path for path, _ in files], root)
    good = [(path, label, digest) for (path, label), digest in zip(files, digests, strict=True) if digest is not None]
    broken = [str(path) for (path, _), digest in zip(files, digests, strict=True) if digest is None]
    if len(broken) > MAX_BROKEN * len(files):
        raise DataError(
            f"{root}: {len(broken)} of {len(files)} images cannot be decoded (over 1 %), the first: {broken[0]}; repair the data"
        )
    paths, labels, kept = zip(*good, strict=True)
    return ImageSet.of(FileList(paths, kept), np.array(labels), classes), broken


SOURCES: dict[str, Callable[[str, Data], Source]] = {
    "embedded": embedded,
    "torchvision": torchvision,
    "folder": folder,
    "webdataset": webdataset,
}
