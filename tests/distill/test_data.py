"""The data sources, their splits, and what they say of bad input."""

import gzip
import hashlib
import runpy
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from edgedistill.distill import data
from edgedistill.distill.data import SOURCES, open_splits
from edgedistill.errors import DataError, RecipeError
from edgedistill.recipe import Data

EMBEDDED_SHA256 = "162bd1775295ce26b8218f000f5c57f1dc99c45cfb1f6f8e7f4809730e8d4842"


def test_the_embedded_file_is_the_one_that_was_built() -> None:
    content = data.EMBEDDED_FILE.read_bytes()
    assert hashlib.sha256(content).hexdigest() == EMBEDDED_SHA256
    assert len(content) <= 6_000_000


def test_the_embedded_set_is_balanced_and_disjoint() -> None:
    splits = open_splits(Data(source="embedded", validation=0.1))
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [9000, 1000, 2000]
    for part, each in ((splits.train, 900), (splits.validation, 100), (splits.test, 200)):
        assert np.bincount(part.labels).tolist() == [each] * 10
    assert not set(splits.train.index) & set(splits.validation.index)
    assert splits.classes[0] == "T-shirt/top"
    assert splits.licence == "MIT"
    assert splits.train.frame(0).shape == (28, 28, 3)


def write_idx(path: Path, array: np.ndarray, *, packed: bool) -> None:
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.tobytes()
    path.write_bytes(gzip.compress(content)) if packed else path.write_bytes(content)


@pytest.fixture
def fashion_mnist_raw(tmp_path: Path) -> Path:
    """A data set in Fashion-MNIST's form, with random images, where torchvision expects it."""
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, count in (("train", 10_100), ("t10k", 2_050)):
        write_idx(raw / f"{name}-images-idx3-ubyte", rng.integers(0, 256, (count, 28, 28), np.uint8), packed=False)
        write_idx(raw / f"{name}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8), packed=False)
    return tmp_path


def test_the_builder_makes_the_same_bytes_twice_from_packed_and_unpacked_files(fashion_mnist_raw: Path) -> None:
    build = runpy.run_path(str(data.EMBEDDED_FILE.with_name("build_fashion_mnist.py")))["build"]
    raw, packed = fashion_mnist_raw / "FashionMNIST" / "raw", fashion_mnist_raw / "packed"
    packed.mkdir()
    for file in raw.iterdir():
        (packed / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    build(raw, fashion_mnist_raw / "a.npz")
    build(packed, fashion_mnist_raw / "b.npz")
    assert (fashion_mnist_raw / "a.npz").read_bytes() == (fashion_mnist_raw / "b.npz").read_bytes()
    with np.load(fashion_mnist_raw / "a.npz", allow_pickle=False) as arrays:
        assert arrays["train_images"].shape == (10_000, 28, 28)
        assert np.bincount(arrays["test_labels"]).tolist() == [200] * 10


FULL_SET = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.slow
@pytest.mark.skipif(not FULL_SET.is_dir(), reason="the Debian package dataset-fashion-mnist is not installed")
def test_the_embedded_file_is_rebuilt_bit_for_bit(tmp_path: Path) -> None:
    build = runpy.run_path(str(data.EMBEDDED_FILE.with_name("build_fashion_mnist.py")))["build"]
    build(FULL_SET, tmp_path / "again.npz")
    assert hashlib.sha256((tmp_path / "again.npz").read_bytes()).hexdigest() == EMBEDDED_SHA256


def test_torchvision_source(fashion_mnist_raw: Path) -> None:
    splits = open_splits(Data(source="torchvision:FashionMNIST", root=str(fashion_mnist_raw), validation=0.02, test_limit=100))
    # 1,010 images a class, of which 2 % rounded, 20, are held out; test_limit leaves 100 of those 200
    assert (len(splits.train), len(splits.validation)) == (10_100 - 10 * 20, 100)
    assert len(splits.test) == 100
    assert splits.classes[9] == "Ankle boot"
    assert splits.licence == "MIT"
    assert splits.train.frame(0).shape == (28, 28, 3)


def test_embedded_and_torchvision_name_the_classes_in_one_order() -> None:
    from torchvision.datasets import FashionMNIST

    ours = open_splits(Data(source="embedded")).classes
    assert FashionMNIST.classes == list(ours)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("embeded", "Did you mean 'embedded'"),
        ("torchvision:FashonMNIST", "Did you mean 'FashionMNIST'"),
        ("folders:x", "Known: embedded, torchvision:NAME, folder:PATH, webdataset:SHARDS"),
        ("s3:bucket", "unknown source"),
    ],
)
def test_unknown_sources_offer_close_matches(source: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        open_splits(Data(source=source))


def test_sources_are_those_that_the_message_lists() -> None:
    assert list(SOURCES) == ["embedded", "torchvision", "folder", "webdataset"]


def test_a_wheel_without_the_checkout_says_what_to_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(data, "EMBEDDED_FILE", tmp_path / "missing.npz")
    with pytest.raises(DataError, match="torchvision:FashionMNIST"):
        open_splits(Data(source="embedded"))


def test_a_failed_download_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torchvision import datasets

    def no_network(*args: object, **kwargs: object) -> None:
        raise RuntimeError("Error downloading\n\n  no network")

    monkeypatch.setattr(datasets.FashionMNIST, "download", no_network)
    with pytest.raises(DataError, match=r"cannot be opened or downloaded into .*no network.*folder:PATH"):
        open_splits(Data(source="torchvision:FashionMNIST", root=str(tmp_path)))


def folder(path: Path) -> Data:
    return Data(source=f"folder:{path}", validation=0.25)


def test_class_folders_are_split_by_class(image_folder: Path) -> None:
    splits = open_splits(folder(image_folder))
    assert splits.classes == ("bag", "shoe")
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [12, 4, 4]
    assert np.bincount(splits.test.labels).tolist() == [2, 2]
    bright = [frame.mean() for frame, label in zip(splits.train, splits.train.labels, strict=True) if label == 1]
    assert min(bright) > 150


@pytest.mark.parametrize("validation", ["validation", "val"])
def test_ready_made_splits_are_used(image_folder: Path, tmp_path: Path, validation: str) -> None:
    for name in ("train", validation, "test"):
        shutil.copytree(image_folder, tmp_path / "split" / name)
    (tmp_path / "split" / "test" / "bag" / "0.png").unlink()
    splits = open_splits(folder(tmp_path / "split"))
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [20, 20, 19]


def test_a_test_split_with_other_classes_is_refused(image_folder: Path, tmp_path: Path) -> None:
    for name in ("train", "test"):
        shutil.copytree(image_folder, tmp_path / "split" / name)
    (tmp_path / "split" / "test" / "bag").rename(tmp_path / "split" / "test" / "sack")
    with pytest.raises(DataError, match=r"\['sack', 'shoe'\].*\['bag', 'shoe'\]"):
        open_splits(folder(tmp_path / "split"))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        open_splits(folder(tmp_path / "nowhere"))


def test_an_empty_class_is_named(image_folder: Path) -> None:
    (image_folder / "hat").mkdir()
    (image_folder / "hat" / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match="no images in class 'hat'"):
        open_splits(folder(image_folder))


def test_one_class_is_not_enough(image_folder: Path) -> None:
    shutil.rmtree(image_folder / "bag")
    with pytest.raises(DataError, match=r"1 class folders \(shoe\)"):
        open_splits(folder(image_folder))


def many(image_folder: Path, count: int) -> None:
    for i in range(count):
        shutil.copy(image_folder / "bag" / "0.png", image_folder / "bag" / f"copy{i}.png")


def test_a_corrupt_image_is_skipped_named_and_counted(image_folder: Path) -> None:
    many(image_folder, 100)
    (image_folder / "bag" / "broken.jpg").write_bytes(b"\xff\xd8 not a photograph")
    splits = open_splits(folder(image_folder))
    assert [Path(name).name for name in splits.skipped] == ["broken.jpg"]
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 120


def test_over_one_percent_of_corrupt_images_is_refused(image_folder: Path) -> None:
    (image_folder / "bag" / "broken.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 21 images cannot be decoded \(over 1 %\).*broken\.jpg"):
        open_splits(folder(image_folder))


def test_limits_cut_the_sets_evenly() -> None:
    splits = open_splits(Data(source="embedded", train_limit=50, test_limit=20))
    assert np.bincount(splits.train.labels).tolist() == [5] * 10
    assert np.bincount(splits.test.labels).tolist() == [2] * 10


def test_the_checksum_of_the_splits_changes_with_the_split() -> None:
    first = open_splits(Data(source="embedded", train_limit=50, test_limit=20))
    second = open_splits(Data(source="embedded", train_limit=60, test_limit=20))
    assert first.sha256 != second.sha256
