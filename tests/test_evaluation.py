"""Accuracy of runs and bundles, on images as they are and made worse, and the corruptions themselves."""

import math
from pathlib import Path

import numpy as np
import pytest
from tiny_network import RECIPE

from edgedistill import corruptions, evaluation, recipe
from edgedistill.corruptions import CORRUPTIONS, Corruption
from edgedistill.distill import run
from edgedistill.distill.data import open_splits
from edgedistill.errors import DataError, RecipeError

BUNDLE = Path(__file__).parents[1] / "export" / "fashion-mnist-mobilenetv3"


def quiet(text: str, done: int, total: int) -> None:
    """Show no progress."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "run"
    run.distill(recipe.decode(RECIPE, overrides=["data.test_limit=300"]), folder)
    return folder


def test_evaluate_a_run(plain: Path) -> None:
    results = evaluation.evaluate(plain, source=None, file=None, progress=quiet)
    assert (results["name"], results["images"], results["source"]) == ("tiny", 300, "embedded")
    assert results["entries"][0]["accuracy"] == pytest.approx(run.load(plain).results["student"]["accuracy"])


def test_images_whose_classes_are_in_another_order_are_scored_by_name(image_copy: Path) -> None:
    data = recipe.Data(source=f"folder:{image_copy}")
    sorted_names = open_splits(data).classes
    wanted = tuple(reversed(sorted_names))
    images = evaluation._test_images(data, wanted)
    assert images.classes == wanted
    assert [images.classes[label] for label in images.labels] == [sorted_names[label] for label in open_splits(data).test.labels]


def test_evaluate_on_other_classes_shows_both_lists(image_copy: Path) -> None:
    (image_copy / "Bag").rename(image_copy / "Sack")
    with pytest.raises(DataError, match=r"(?s)'Bag'.*'Sack'"):
        evaluation.evaluate(BUNDLE, source=f"folder:{image_copy}", file=None, progress=quiet)


def test_evaluate_one_file_of_a_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    few = recipe.Data(source="embedded", test_limit=100)
    monkeypatch.setattr(evaluation, "Data", lambda source: few)
    results = evaluation.evaluate(BUNDLE, source=None, file="onnx-fp32", progress=quiet)
    (entry,) = results["entries"]
    assert (entry["format"], entry["precision"], results["images"]) == ("onnx", "fp32", 100)
    assert entry["accuracy"] > 0.75


def test_corrupted_images_are_further_entries_with_their_flips(plain: Path) -> None:
    worse = [Corruption("dark", 0), Corruption("dark", 95)]
    clean, same, dark = evaluation.evaluate(plain, source=None, file=None, progress=quiet, corruptions=worse)["entries"]
    assert "corruption" not in clean
    assert (same["corruption"], same["flips"], same["accuracy"]) == ("dark=0", 0.0, clean["accuracy"])
    assert dark["corruption"] == "dark=95"
    assert dark["flips"] > 0


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_strength_0_changes_nothing_and_the_frame_is_left_alone(name: str) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    before = frame.copy()
    assert np.array_equal(Corruption(name, 0)(frame), frame)
    changed = Corruption(name, 30)(frame)
    assert (changed.shape, changed.dtype) == (frame.shape, np.uint8)
    assert not np.array_equal(changed, frame)
    assert np.array_equal(frame, before)


def test_dark_by_hand() -> None:
    frame = np.array([[[0, 100, 255]]], np.uint8)
    assert corruptions.dark(frame, 60).tolist() == [[[0, 40, 102]]]


def test_blur_by_hand() -> None:
    """A point of light spreads to the height of a Gaussian, 1 / (2 pi sigma^2) of its own, whatever the frame's longer side is."""
    frame = np.zeros((100, 140, 3), np.uint8)
    frame[50, 70] = 255
    assert corruptions.blur(frame, 1)[50, 70, 0] == pytest.approx(255 / (2 * math.pi), abs=2)


def test_noise_by_hand() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    noisy = corruptions.noise(grey, 10).astype(float) - 128
    assert noisy.std() == pytest.approx(25.5, rel=0.02)
    assert np.array_equal(corruptions.noise(grey, 10), corruptions.noise(grey, 10))


def test_parse() -> None:
    assert corruptions.parse("blur=1.5") == ("blur", 1.5)
    assert str(Corruption("dark", 60)) == "dark=60"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blurr=1", "Did you mean 'blur'"),
        ("blur", "expected blur=PERCENT"),
        ("blur=much", "expected blur=PERCENT"),
        ("dark=101", "from 0 to 100"),
        ("dark=nan", "from 0 to 100"),
    ],
)
def test_a_corruption_that_is_none(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        corruptions.parse(text)
