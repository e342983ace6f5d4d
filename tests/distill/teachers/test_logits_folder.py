"""Stored logits: the right row for each image of each split, and folders that do not fit the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made
import numpy as np
import pytest

from edgedistill.distill.data import Splits
from edgedistill.distill.predict import answers_on
from edgedistill.distill.teachers import Teacher, open_teacher
from edgedistill.errors import EdgeDistillError, RecipeError
from edgedistill.recipe import Student

STUDENT = Student(model="python:tiny_network:make", input_size=16)


def write(folder: Path, *, train: int = 36, test: int | None = 9, columns: int = 3) -> dict[str, np.ndarray]:
    folder.mkdir()
    rng = np.random.default_rng(0)
    tables = {"train": rng.normal(size=(train, columns))}
    if test is not None:
        tables["test"] = rng.normal(size=(test, columns)).astype(np.float16)
    for name, table in tables.items():
        np.save(folder / f"{name}.npy", table)
    return tables


def opened(folder: Path, splits: Splits, **keys: Any) -> Teacher:
    data = keys.pop("data", {"source": "embedded"})
    teacher = open_teacher(made.recipe_of({"model": f"logits:{folder}", **keys}, data=data), splits)
    assert teacher is not None
    return teacher


def test_each_image_gets_its_row_also_where_the_split_was_carved_out(tmp_path: Path) -> None:
    tables, splits = write(tmp_path / "logits"), made.splits()
    teacher = opened(tmp_path / "logits", splits)
    for images, rows in (
        (splits.train, tables["train"][12:]),
        (splits.validation, tables["train"][:12]),
        (splits.test, tables["test"]),
        (splits.train.take(np.array([3, 1])), tables["train"][[15, 13]]),
    ):
        assert np.allclose(answers_on(teacher, images, student=STUDENT, batch_size=5), rows)


def test_unlabelled_images_come_after_those_of_train(tmp_path: Path) -> None:
    tables, splits = write(tmp_path / "logits", train=40), made.splits(unlabelled=4)
    assert splits.unlabelled is not None
    both = splits.train.followed_by(splits.unlabelled)
    answers = answers_on(opened(tmp_path / "logits", splits), both, student=STUDENT)
    assert np.allclose(answers, tables["train"][12:])


def test_classes_and_mapping_apply_to_columns(tmp_path: Path) -> None:
    tables, splits = write(tmp_path / "logits", test=None), made.splits(own_test=False)
    (tmp_path / "logits" / "classes.txt").write_text("red\ngreen\nblue\n")
    with pytest.raises(EdgeDistillError, match="another order"):
        opened(tmp_path / "logits", splits)
    teacher = opened(tmp_path / "logits", splits, mapping={name: name for name in made.CLASSES})
    assert np.allclose(answers_on(teacher, splits.test, student=STUDENT), tables["train"][:9, ::-1])


def test_the_identity_follows_the_rows(tmp_path: Path) -> None:
    write(tmp_path / "logits")
    before = opened(tmp_path / "logits", made.splits()).identity
    assert opened(tmp_path / "logits", made.splits()).identity == before
    np.save(tmp_path / "logits" / "test.npy", np.zeros((9, 3)))
    assert opened(tmp_path / "logits", made.splits()).identity != before


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"train": 35}, r"train\.npy has 35 rows, the data has 36 images there"),
        ({"test": None}, r"test\.npy cannot be read"),
        ({"columns": 4}, "has 4 outputs, the data has 3"),
    ],
)
def test_folders_that_do_not_fit_are_explained(tmp_path: Path, written: dict[str, Any], message: str) -> None:
    write(tmp_path / "logits", **written)
    with pytest.raises(EdgeDistillError, match=message):
        opened(tmp_path / "logits", made.splits())


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.zeros((9, 3), int), r"is \(9, 3\) of int64, expected \(images, classes\) float"),
        (np.zeros(9), r"is \(9,\) of float64"),
        (np.array([None] * 9), "cannot be read"),
        (np.zeros((9, 4)), "the files have 3 and 4 columns"),
    ],
)
def test_arrays_that_are_no_logits_are_refused(tmp_path: Path, table: np.ndarray, message: str) -> None:
    write(tmp_path / "logits")
    np.save(tmp_path / "logits" / "test.npy", table, allow_pickle=True)
    with pytest.raises(EdgeDistillError, match=message):
        opened(tmp_path / "logits", made.splits())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"source": "embedded", "augment": {"mixup": 0.2}}, "answers for whole images only; take mixup and cutmix out"),
        ({"source": "embedded", "augment": {"cutmix": 1.0}}, "whole images only"),
        ({"source": "webdataset:x.tar"}, "images in shards do not have"),
    ],
)
def test_data_without_rows_is_refused(tmp_path: Path, data: dict[str, Any], message: str) -> None:
    write(tmp_path / "logits")
    with pytest.raises(RecipeError, match=message):
        opened(tmp_path / "logits", made.splits(), data=data)


def test_it_has_no_layers(tmp_path: Path) -> None:
    write(tmp_path / "logits")
    with pytest.raises(RecipeError, match="only logits"):
        opened(tmp_path / "logits", made.splits()).answer(made.views(1), ["2"])
