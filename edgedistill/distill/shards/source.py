"""Image sets of tar shards: splits by the shards' file names, class names, labels, and what is wrong with them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from edgedistill.distill.images import ImageSet
from edgedistill.distill.shards.frames import MAX_BROKEN, Shards
from edgedistill.distill.shards.index import Sample, Shard, index_of
from edgedistill.distill.shards.urls import beside, expand, split_of
from edgedistill.errors import DataError, close_matches


def open_shards(text: str) -> tuple[dict[str, ImageSet], list[str]]:
    """Return the image sets by split, and the names of the samples that are left out because their image is not whole."""
    urls = expand(text)
    shards, skipped = indexed(urls)
    splits = {split: [shard for shard in shards if split_of(shard.url) == split] for split in ("train", "validation", "test")}
    if not splits["train"]:
        raise DataError(f"none of the {len(urls)} shards is for training: {', '.join(urls)}; names that begin with val or test are not")
    check_keys(splits)
    classes = class_names(splits["train"], names_beside(urls[0]))
    numbers = {name: number for number, name in enumerate(classes)}
    return {split: image_set(shards, numbers) for split, shards in splits.items() if shards}, skipped


def open_unlabelled(text: str, classes: Sequence[str]) -> tuple[ImageSet, list[str]]:
    """Return all images of the shards, whatever their labels and names, without labels."""
    shards, skipped = indexed(expand(text))
    check_keys({"data.unlabelled": shards})
    frames = Shards(shards)
    return ImageSet.of(frames, np.full(len(frames), -1), classes), skipped


def indexed(urls: Sequence[str]) -> tuple[list[Shard], list[str]]:
    """Return the shards without their unusable samples, and the names of these; DataError for too many of them or none left."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        shards = list(pool.map(index_of, urls))
    broken = [f"{shard.url}: {sample.key} {sample.problem}" for shard in shards for sample in shard.samples if sample.problem]
    total = sum(len(shard.samples) for shard in shards)
    if len(broken) > MAX_BROKEN * total:
        raise DataError(
            f"{len(broken)} of {total} samples in the shards cannot be used (over 1 %), the first: {broken[0]}; repair the data"
        )
    for shard in shards:
        shard.samples = [sample for sample in shard.samples if not sample.problem]
        if not shard.samples:
            raise DataError(f"the shard {shard.url} has no samples; write it again or leave it out of data.source")
    return shards, broken


def check_keys(splits: Mapping[str, Sequence[Shard]]) -> None:
    """Raise DataError for a key that is twice in a split: its views would be the same."""
    for split, shards in splits.items():
        count = Counter(sample.key for shard in shards for sample in shard.samples)
        if twice := [key for key, times in count.items() if times > 1]:
            where = [shard.url for shard in shards for sample in shard.samples if sample.key == twice[0]]
            raise DataError(
                f"{len(twice)} keys are more than once in the {split} shards, the first is {twice[0]!r} in {where[0]} and {where[1]}; "
                "give each sample a key of its own, for instance with the shard's number in it"
            )


def names_beside(url: str) -> list[str] | None:
    """Return the class names in classes.txt (one a line) or classes.json (a list) beside a shard."""
    try:
        if (data := beside(url, "classes.txt")) is not None:
            return [line.strip() for line in data.decode().splitlines() if line.strip()]
        if (data := beside(url, "classes.json")) is not None:
            names = json.loads(data)
            if isinstance(names, list) and all(isinstance(name, str) for name in names):
                return names
            raise ValueError("it is no list of names")
    except ValueError as error:
        raise DataError(f"the class names beside {url} cannot be read: {error}; write classes.txt, one name a line") from error
    return None


def class_names(shards: Sequence[Shard], given: list[str] | None) -> tuple[str, ...]:
    """Return the class names in the order of their numbers: as given, else what the training labels say."""
    labels = {label_of(shard, sample) for shard in shards for sample in shard.samples}
    kinds = {type(label) for label in labels}
    if len(kinds) > 1:
        raise DataError(f"the labels in the shards are numbers and names: {sorted(map(str, labels))[:5]}; write one or the other")
    names = given
    if names is None:
        names = sorted(map(str, labels)) if kinds == {str} else [str(number) for number in range(max(map(int, labels)) + 1)]
    if len(set(names)) != len(names) or len(names) < 2:
        raise DataError(f"the shards have the classes {names[:5]}; at least 2, with different names, are needed")
    return tuple(names)


def image_set(shards: Sequence[Shard], numbers: Mapping[str, int]) -> ImageSet:
    """Return the images of a split with the numbers of their classes."""
    labels = np.empty(sum(len(shard.samples) for shard in shards), np.int64)
    samples = ((shard, sample) for shard in shards for sample in shard.samples)
    for place, (shard, sample) in enumerate(samples):
        label = label_of(shard, sample)
        number = label if isinstance(label, int) else numbers.get(label, -1)
        if not 0 <= number < len(numbers):
            near = close_matches(str(label), numbers)
            raise DataError(
                f"{shard.url}: {sample.key} has the label {label!r}, the classes are {', '.join(list(numbers)[:10])}"
                f"{', …' if len(numbers) > 10 else ''}.{near} Correct it, or give the names in classes.txt beside the first shard"
            )
        labels[place] = number
    return ImageSet.of(Shards(shards), labels, list(numbers))


def label_of(shard: Shard, sample: Sample) -> int | str:
    """Return a sample's label; DataError without one."""
    if sample.label is None:
        raise DataError(f"{shard.url}: {sample.key} has no label; give it a .cls file, or a .json file with a label")
    return sample.label
