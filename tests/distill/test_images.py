"""Image sets: indexing, balanced subsets, held-out splits, decoding."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.distill.images import FileList, GreyArray, ImageSet, decode_file, split_off
from edgedistill.errors import DataError


def numbered(labels: list[int], classes: int = 3) -> ImageSet:
    """Return a set in which image i is a grey image of value i."""
    pixels = np.arange(len(labels), dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(5, 2)
    return ImageSet.of(GreyArray(pixels), np.array(labels), [f"class {i}" for i in range(classes)])


def values(images: ImageSet) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in images]


def test_grey_frames_are_bgr_with_three_equal_channels() -> None:
    frame = numbered([0, 1, 2]).frame(2)
    assert frame.shape == (4, 5, 3)
    assert (frame == 2).all()


def test_take_keeps_images_and_labels_together() -> None:
    part = numbered([0, 1, 2, 0, 1]).take(np.array([4, 0]))
    assert values(part) == [4, 0]
    assert part.labels.tolist() == [1, 0]
    assert values(part.take(np.array([1]))) == [0]
    assert part.index.tolist() == [4, 0]


def test_labels_and_images_must_be_as_many() -> None:
    with pytest.raises(DataError, match="2 images but 3 labels"):
        ImageSet.of(GreyArray(np.zeros((2, 4, 4), np.uint8)), np.zeros(3), ["a", "b"])


@given(limit=st.integers(1, 40))
def test_balanced_subsets_are_even_and_repeatable(limit: int) -> None:
    images = numbered([0] * 20 + [1] * 12 + [2] * 8)
    part = images.balanced(limit)
    assert len(part) == limit
    assert values(part) == values(images.balanced(limit))
    counts = np.bincount(part.labels, minlength=3)
    if limit <= 24:
        assert counts.max() - counts.min() <= 1
    assert len(set(values(part))) == limit


@pytest.mark.parametrize("limit", [None, 3, 4])
def test_a_limit_that_is_no_limit_returns_the_set_itself(limit: int | None) -> None:
    images = numbered([0, 1, 2])
    assert images.balanced(limit) is images


@given(fraction=st.floats(0.01, 0.99), sizes=st.lists(st.integers(2, 20), min_size=2, max_size=4))
def test_split_off_partitions_every_class(fraction: float, sizes: list[int]) -> None:
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    images = numbered(labels, len(sizes))
    rest, held = split_off(images, fraction)
    assert sorted(values(rest) + values(held)) == list(range(len(labels)))
    for label, size in enumerate(sizes):
        count = int((held.labels == label).sum())
        assert 1 <= count <= size - 1
        assert abs(count - size * fraction) <= 1


def test_split_off_is_the_same_on_every_call() -> None:
    images = numbered([0, 1] * 20, 2)
    assert values(split_off(images, 0.3)[1]) == values(split_off(images, 0.3)[1])


def test_split_off_needs_two_images_a_class() -> None:
    with pytest.raises(DataError, match="'class 1' has 1 images"):
        split_off(numbered([0, 0, 1], 2), 0.5)


@pytest.mark.parametrize("change", ["pixel", "label", "class"])
def test_the_checksum_depends_on_everything(change: str) -> None:
    first = numbered([0, 1, 2])
    pixels = np.arange(3, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(5, 2).copy()
    labels, classes = [0, 1, 2], ["class 0", "class 1", "class 2"]
    if change == "pixel":
        pixels[2, 3, 4] ^= 1
    elif change == "label":
        labels[2] = 1
    else:
        classes[2] = "other"
    assert ImageSet.of(GreyArray(pixels), np.array(labels), classes).sha256 != first.sha256
    assert numbered([0, 1, 2]).sha256 == first.sha256


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_files_decode_to_bgr(tmp_path: Path, suffix: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    path = tmp_path / f"image{suffix}"
    assert cv2.imwrite(str(path), image)
    frames = FileList([path])
    assert len(frames) == 1
    assert np.array_equal(frames[0], image)


@pytest.mark.parametrize("damage", ["empty", "cut short", "text"])
def test_a_broken_file_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "photo.jpg"
    assert cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = path.read_bytes()
    path.write_bytes({"empty": b"", "cut short": data[: len(data) // 2], "text": b"not an image"}[damage])
    with pytest.raises(DataError, match=r"photo\.jpg cannot be decoded"):
        decode_file(path)


def test_labels_can_follow_another_order_of_the_classes() -> None:
    images = numbered([0, 1, 2, 2])
    other = images.in_order_of(["class 2", "class 0", "class 1"])
    assert other.labels.tolist() == [1, 2, 0, 0]
    assert [other.classes[label] for label in other.labels] == [images.classes[label] for label in images.labels]
