"""Training images without labels: how they are found, joined, and paid for."""

import shutil
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from edgedistill import recipe
from edgedistill.distill.assemble import with_budget
from edgedistill.distill.data import Splits, open_splits
from edgedistill.distill.images import GreyArray, ImageSet
from edgedistill.distill.run import distill
from edgedistill.errors import DataError, RecipeError
from edgedistill.recipe import Data, Recipe, Term


def write(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((8, 8, 3), number, np.uint8))


@pytest.fixture
def loose(tmp_path: Path) -> Path:
    """A folder with 24 images on three levels, and a file that is none."""
    for number in range(24):
        write(tmp_path / "loose" / ("", "a", "a/b")[number % 3] / f"{number:02}.png", number)
    (tmp_path / "loose" / "a" / "notes.txt").write_text("no image")
    return tmp_path / "loose"


def opened(image_folder: Path, unlabelled: str, **keys: Any) -> Splits:
    return open_splits(Data(source=f"folder:{image_folder}", unlabelled=unlabelled, validation=0.25, **keys))


def test_images_in_any_sub_folders_are_found(image_folder: Path, loose: Path) -> None:
    images = opened(image_folder, f"folder:{loose}").unlabelled
    assert images is not None
    assert sorted(int(frame[0, 0, 0]) for frame in images) == list(range(24))
    assert set(images.labels.tolist()) == {-1}
    assert images.classes == ("bag", "shoe")


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("folder:{}/nowhere", DataError, "nowhere does not exist"),
        ("folder:{}/empty", DataError, "empty holds no images"),
        ("folder:{}/text", DataError, "text holds no images"),
        ("folder:{}/text/notes.txt", DataError, "does not exist"),
        ("folder:{}/broken", DataError, r"1 of 1 images cannot be decoded"),
        ("embedded", RecipeError, "unknown source 'embedded'; write folder:PATH"),
        ("webdataset:{}/no.tar", DataError, r"no\.tar does not exist"),
    ],
)
def test_what_holds_no_images_is_refused(image_folder: Path, tmp_path: Path, source: str, error: type[Exception], message: str) -> None:
    for name in ("empty", "text", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "text" / "notes.txt").write_text("text")
    (tmp_path / "broken" / "x.jpg").write_bytes(b"text")
    with pytest.raises(error, match=message):
        opened(image_folder, source.format(tmp_path))


def test_a_broken_file_is_left_out_and_named(image_folder: Path, tmp_path: Path) -> None:
    for number in range(120):
        write(tmp_path / "many" / f"{number}.png", number)
    (tmp_path / "many" / "x.jpg").write_bytes(b"text")
    splits = opened(image_folder, f"folder:{tmp_path}/many")
    assert splits.unlabelled is not None
    assert len(splits.unlabelled) == 120
    assert [Path(name).name for name in splits.skipped] == ["x.jpg"]


def test_the_labelled_images_may_be_among_them(image_folder: Path) -> None:
    """The same file with and without its label: two images, with views of their own."""
    splits = opened(image_folder, f"folder:{image_folder}")
    assert splits.unlabelled is not None
    both = splits.train.followed_by(splits.unlabelled)
    assert (len(both), len(set(both.numbers.tolist()))) == (12 + 20, 12 + 20)


def grey(first: int, count: int, labels: list[int]) -> ImageSet:
    return ImageSet.of(
        GreyArray(np.arange(first, first + count, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)), np.array(labels), ["a", "b"]
    )


def test_one_set_follows_another() -> None:
    first, second, third = grey(0, 4, [0, 1, 0, 1]).take(np.array([3, 1])), grey(10, 3, [-1] * 3), grey(20, 2, [-1] * 2)
    both = first.followed_by(second.take(np.array([2, 0]))).followed_by(third)
    assert [int(frame[0, 0, 0]) for frame in both] == [3, 1, 12, 10, 20, 21]
    assert both.labels.tolist() == [1, 1, -1, -1, -1, -1]
    assert both.numbers.tolist() == [3, 1, 6, 4, 7, 8]
    assert [int(frame[0, 0, 0]) for frame in both.take(np.array([4, 0]))] == [20, 3]
    whole = grey(0, 4, [0, 1, 0, 1])
    assert whole.followed_by(second).numbers[:4].tolist() == whole.numbers.tolist()


def test_the_checksum_of_joined_sets_is_that_of_their_images() -> None:
    labels = [0, 1, -1, -1]
    assert grey(0, 2, labels[:2]).followed_by(grey(2, 2, labels[2:])).sha256 == grey(0, 4, labels).sha256


def learning(tiny_recipe: Recipe, loose: Path, *terms: Term, taught: bool = False) -> Recipe:
    data = msgspec.structs.replace(tiny_recipe.data, unlabelled=f"folder:{loose}", train_limit=48, test_limit=20)
    train = msgspec.structs.replace(tiny_recipe.train, epochs=4)
    teacher = recipe.Teacher(model="python:tiny_network:make", input_size=16, gate=False) if taught else None
    return msgspec.structs.replace(tiny_recipe, data=data, distill=terms, train=train, teacher=teacher)


@pytest.mark.parametrize(
    ("terms", "epochs", "images"),
    [
        ([Term(loss="cross_entropy")], 6, 48),
        ([Term(loss="kd")], 4, 72),
        ([Term(loss="cross_entropy"), Term(loss="kd")], 4, 72),
    ],
)
def test_a_control_takes_as_many_steps(tiny_recipe: Recipe, loose: Path, terms: list[Term], epochs: int, images: int) -> None:
    wanted = learning(tiny_recipe, loose, *terms, taught=True)
    budget, trained_on = with_budget(wanted, open_splits(wanted.data))
    assert (budget.train.epochs, len(trained_on)) == (epochs, images)
    assert budget.train.epochs * len(trained_on) == 4 * 72


def test_without_unlabelled_images_the_budget_stays(tiny_recipe: Recipe) -> None:
    splits = open_splits(tiny_recipe.data)
    assert with_budget(tiny_recipe, splits) == (tiny_recipe, splits.train)


def test_kd_learns_from_unlabelled_images_and_cross_entropy_does_not(tiny_recipe: Recipe, loose: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(loose, other)
    for number, path in enumerate(sorted(other.rglob("*.png"))):
        write(path, 200 - number)
    terms = {"kd": (Term(loss="kd"), Term(loss="cross_entropy")), "cross_entropy": (Term(loss="cross_entropy"),)}
    nll = {
        (name, folder.name): distill(learning(tiny_recipe, folder, *terms[name], taught=name == "kd"), tmp_path / f"{name}-{folder.name}")
        for name in terms
        for folder in (loose, other)
    }
    found = {key: results["student"]["nll"] for key, results in nll.items()}
    assert found["kd", "loose"] != found["kd", "other"]
    assert found["cross_entropy", "loose"] == found["cross_entropy", "other"]
    assert nll["kd", "loose"]["data"]["images"]["unlabelled"] == 24
