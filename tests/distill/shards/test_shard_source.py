"""Image sets from shards: splits, classes, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_shards

from edgedistill.distill.data import Splits, open_splits
from edgedistill.distill.shards.source import open_shards
from edgedistill.errors import DataError, RecipeError
from edgedistill.recipe import Augment, Data


def splits_of(text: str, **keys: Any) -> Splits:
    return open_splits(Data(source=f"webdataset:{text}", **keys))


def test_splits_that_the_shards_lack_are_carved_out(tmp_path: Path) -> None:
    splits = splits_of(tiny_shards.write_numbers(tmp_path, range(20), range(20, 60)), validation=0.25)
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [36, 12, 12]
    assert splits.classes == ("0", "1", "2")
    for images in (splits.train, splits.validation, splits.test):
        assert len(set(np.bincount(images.labels))) == 1
        for frame, index in zip(images, images.index, strict=True):
            assert np.array_equal(frame, tiny_shards.pixels(int(index)))
    together = np.concatenate([splits.train.index, splits.validation.index, splits.test.index])
    assert sorted(together.tolist()) == list(range(60))


def test_shards_are_sorted_into_splits_by_name(tmp_path: Path) -> None:
    for name, numbers in (("train-0", range(6)), ("more", range(6, 9)), ("val-0", range(4)), ("test-0", range(5))):
        tiny_shards.write(tmp_path / f"{name}.tar", [tiny_shards.sample(number) for number in numbers])
    splits = splits_of(f"{tmp_path}/{{test-0,train-0,val-0,more}}.tar")
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [9, 4, 5]
    assert splits.train.labels.tolist() == [number % 3 for number in range(9)]
    assert [images.origin for images in splits[:3]] == ["train", "validation", "test"]


def test_limits_are_balanced(tmp_path: Path) -> None:
    splits = splits_of(tiny_shards.write_numbers(tmp_path, range(60)), train_limit=6, test_limit=3)
    assert np.bincount(splits.train.labels).tolist() == [2, 2, 2]
    assert np.bincount(splits.test.labels).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("labels", "beside", "classes", "numbers"),
    [
        (["1", "0", "1"], {}, ("0", "1"), [1, 0, 1]),
        (["2", "0", "2"], {}, ("0", "1", "2"), [2, 0, 2]),
        (["shoe", "bag", "shoe"], {}, ("bag", "shoe"), [1, 0, 1]),
        (["shoe", "bag", "shoe"], {"classes.txt": "shoe\nhat\n\nbag\n"}, ("shoe", "hat", "bag"), [0, 2, 0]),
        (["1", "0", "1"], {"classes.txt": "shoe\nbag\n"}, ("shoe", "bag"), [1, 0, 1]),
        (["1", "0", "1"], {"classes.json": '["shoe", "bag"]'}, ("shoe", "bag"), [1, 0, 1]),
    ],
)
def test_classes(tmp_path: Path, labels: list[str], beside: dict[str, str], classes: tuple[str, ...], numbers: list[int]) -> None:
    for name, text in beside.items():
        (tmp_path / name).write_text(text)
    tiny_shards.write(tmp_path / "train-0.tar", [tiny_shards.sample(number, cls=label) for number, label in enumerate(labels)])
    images = open_shards(f"{tmp_path}/train-0.tar")[0]["train"]
    assert images.classes == classes
    assert images.labels.tolist() == numbers


def test_labels_in_json(tmp_path: Path) -> None:
    samples = [tiny_shards.sample(number, cls=None, json=json.dumps({"label": "ba"[number % 2]})) for number in range(4)]
    tiny_shards.write(tmp_path / "train-0.tar", samples)
    images = open_shards(f"{tmp_path}/train-0.tar")[0]["train"]
    assert (images.classes, images.labels.tolist()) == (("a", "b"), [1, 0, 1, 0])


ONE = [tiny_shards.sample(number) for number in range(6)]


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ({"val-0": ONE, "test-0": ONE}, "none of the 2 shards is for training"),
        ({"train-0": [*ONE, tiny_shards.sample(7, cls=None)]}, "photo-0007 has no label; give it a .cls file"),
        ({"train-0": [*ONE, tiny_shards.sample(7, cls="bag")]}, "numbers and names"),
        ({"train-0": [tiny_shards.sample(1), tiny_shards.sample(4)], "classes.txt": "one"}, "at least 2, with different names"),
        ({"train-0": [tiny_shards.sample(0), tiny_shards.sample(3)]}, "at least 2, with different names"),
        ({"train-0": ONE, "classes.txt": "a\nb\nb"}, "with different names"),
        ({"train-0": ONE, "classes.txt": "a\nb"}, "photo-0002 has the label 2, the classes are a, b"),
        ({"train-0": ONE, "classes.json": '{"a": 1}'}, "is no list of names"),
        ({"train-0": ONE, "classes.json": "["}, "the class names beside .* cannot be read"),
        ({"train-0": [tiny_shards.sample(0, cls="-1"), *ONE[1:]], "classes.txt": "a\nb\nc"}, "numbers and names"),
        ({"train-0": ONE, "val-0": [tiny_shards.sample(9, cls="3")]}, r"val-0.tar: photo-0009 has the label 3"),
        (
            {"train-0": [tiny_shards.sample(n, cls=f"bag{n}") for n in range(2)], "val-0": [tiny_shards.sample(9, cls="bag")]},
            "Did you mean 'bag",
        ),
        (
            {"train-0": ONE, "train-1": [tiny_shards.sample(4)]},
            r"1 keys are more than once in the train shards.*'photo-0004' in .*0.tar and .*1.tar",
        ),
        ({"train-0": [*ONE, tiny_shards.sample(0)]}, "'photo-0000'"),
        ({"train-0": []}, r"train-0.tar has no samples"),
        ({"train-0": ONE, "val-0": []}, r"val-0.tar has no samples"),
        ({"train-0": [*ONE, tiny_shards.sample(7, png=b"text")]}, r"1 of 7 samples .* \(over 1 %\).*photo-0007 is not a whole image"),
    ],
)
def test_bad_shards_are_refused(tmp_path: Path, shards: dict[str, Any], message: str) -> None:
    for name, content in shards.items():
        if isinstance(content, str):
            (tmp_path / name).write_text(content)
        else:
            tiny_shards.write(tmp_path / f"{name}.tar", content)
    names = ",".join(name for name, content in shards.items() if not isinstance(content, str))
    with pytest.raises(DataError, match=message):
        open_shards(f"{tmp_path}/{{{names}}}.tar" if "," in names else f"{tmp_path}/{names}.tar")


def test_one_key_in_two_splits_is_no_duplicate(tmp_path: Path) -> None:
    for name in ("train", "val", "test"):
        tiny_shards.write(tmp_path / f"{name}.tar", ONE)
    assert len(splits_of(f"{tmp_path}/{{train,val,test}}.tar").validation) == 6


def test_an_image_that_is_not_whole_is_left_out_and_named(tmp_path: Path) -> None:
    samples = [tiny_shards.sample(number, png=b"" if number == 77 else tiny_shards.sample(number)["png"]) for number in range(120)]
    tiny_shards.write(tmp_path / "train-0.tar", samples)
    splits = splits_of(f"{tmp_path}/train-0.tar")
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 119
    assert [re.sub(r".*train", "train", name) for name in splits.skipped] == ["train-0.tar: photo-0077 is not a whole image"]


def test_the_checksum_is_of_keys_labels_and_sizes_whatever_the_shards(tmp_path: Path) -> None:
    first, second = tiny_shards.write_numbers(tmp_path / "a", range(9)), tiny_shards.write_numbers(tmp_path / "b", range(4), range(4, 9))
    other = tmp_path / "c" / "train-0.tar"
    tiny_shards.write(other, [tiny_shards.sample(number, __key__=f"other-{number}") for number in range(9)])
    sets = [open_shards(text)[0]["train"].sha256 for text in (first, second, str(other))]
    assert sets[0] == sets[1] != sets[2]


def test_unlabelled_images_can_come_from_shards(tmp_path: Path) -> None:
    labelled = tiny_shards.write_numbers(tmp_path / "a", range(30))
    tiny_shards.write(tmp_path / "b" / "test-0.tar", [tiny_shards.sample(number, cls=None) for number in range(100, 107)])
    splits = splits_of(labelled, unlabelled=f"webdataset:{tmp_path}/b/test-0.tar")
    assert splits.unlabelled is not None
    assert splits.unlabelled.labels.tolist() == [-1] * 7
    both = splits.train.followed_by(splits.unlabelled)
    assert np.array_equal(both.frame(len(splits.train) + 2), tiny_shards.pixels(102))
    assert both.numbers.tolist() == [*splits.train.numbers, *splits.unlabelled.numbers]
    assert len({both.sha256, splits.train.sha256, splits.unlabelled.sha256}) == 3


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"augment": Augment(mixup=0.2)}, "data.augment.mixup needs training images at any place"),
        ({"augment": Augment(cutmix=1.0)}, "data.augment.cutmix"),
        ({"unlabelled": "folder"}, "data.unlabelled needs"),
    ],
)
def test_what_a_stream_cannot_do_is_refused(tmp_path: Path, image_folder: Path, keys: dict[str, Any], message: str) -> None:
    if "unlabelled" in keys:
        keys = {"unlabelled": f"folder:{image_folder}"}
    with pytest.raises(RecipeError, match=message):
        splits_of(tiny_shards.write_numbers(tmp_path, range(30), suffix="tgz"), **keys)
    assert len(splits_of(tiny_shards.write_numbers(tmp_path, range(30)), **keys).train) == 21


def test_held_out_images_of_a_stream_are_in_memory(tmp_path: Path) -> None:
    with tiny_shards.served(tmp_path) as (url, seen):
        tiny_shards.write_numbers(tmp_path, range(15), range(15, 30))
        splits = splits_of(f"{url}/train-{{0..1}}.tar")
        seen.clear()
        for images in (splits.validation, splits.test):
            assert all(np.array_equal(frame, tiny_shards.pixels(int(index))) for frame, index in zip(images, images.index, strict=True))
        assert seen == []
