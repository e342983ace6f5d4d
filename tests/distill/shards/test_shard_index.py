"""The index of a shard: keys, labels and places, and what is wrong with a shard or a sample."""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import cv2
import pytest
import tiny_shards
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.distill.shards import index
from edgedistill.distill.shards.index import Shard, index_of, label_in, read_index
from edgedistill.errors import DataError


def indexed(folder: Path, *samples: dict[str, Any], name: str = "train-0.tar") -> Shard:
    return read_index(str(tiny_shards.write(folder / name, samples)))


@pytest.mark.parametrize("name", ["train-0.tar", "train-0.tar.gz"])
def test_samples_are_found_with_label_and_place(tmp_path: Path, name: str) -> None:
    shard = indexed(tmp_path, *(tiny_shards.sample(number) for number in range(5)), name=name)
    assert [sample.key for sample in shard.samples] == [f"photo-{number:04}" for number in range(5)]
    assert [sample.label for sample in shard.samples] == [0, 1, 2, 0, 1]
    assert not any(sample.problem for sample in shard.samples)
    assert shard.seekable == (name == "train-0.tar")
    if shard.seekable:
        sample, content = shard.samples[3], (tmp_path / name).read_bytes()
        assert content[sample.offset : sample.offset + sample.size] == tiny_shards.sample(3)["png"]


def test_local_and_remote_shards_have_one_index(tmp_path: Path) -> None:
    local = indexed(tmp_path, *(tiny_shards.sample(number) for number in range(4)))
    with tiny_shards.served(tmp_path) as (url, _):
        remote = read_index(f"{url}/train-0.tar")
    assert remote.samples == local.samples
    assert not remote.seekable


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "png", "webp", "JPG"])
def test_image_formats(tmp_path: Path, suffix: str) -> None:
    data = cv2.imencode(f".{suffix}", tiny_shards.pixels(0, 40))[1].tobytes()
    [sample] = indexed(tmp_path, tiny_shards.sample(0, **{"png": None, suffix: data})).samples
    assert (sample.image, sample.size, sample.problem) == (suffix.lower(), len(data), "")


@pytest.mark.parametrize(
    ("members", "label"),
    [
        ({"cls": "7"}, 7),
        ({"cls": " bag \n"}, "bag"),
        ({"cls": None, "json": json.dumps({"label": 3})}, 3),
        ({"cls": None, "json": json.dumps({"label": "bag"})}, "bag"),
        ({"cls": None, "json": json.dumps({"caption": "a bag"})}, None),
        ({"cls": None, "json": "[1, 2]"}, None),
        ({"cls": "1", "json": json.dumps({"label": 3})}, 1),
        ({"cls": "1", "json": "[]"}, 1),
        ({"cls": None}, None),
        ({"cls": None, "txt": "a bag"}, None),
    ],
)
def test_labels(tmp_path: Path, members: dict[str, Any], label: object) -> None:
    assert indexed(tmp_path, tiny_shards.sample(0, **members)).samples[0].label == label


@pytest.mark.parametrize(
    ("suffix", "data", "message"),
    [
        ("cls", b"", "neither a number nor a name"),
        ("cls", b"\xff\xfe", r"x\.cls cannot be read"),
        ("json", b"{", r"x\.json cannot be read"),
        ("json", b'{"label": true}', "the label True"),
        ("json", b'{"label": 1.5}', "the label 1.5"),
        ("json", b'{"label": [1]}', "neither"),
    ],
)
def test_labels_that_are_none(suffix: str, data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        label_in(suffix, data, f"x.{suffix}")


@given(st.binary(max_size=40), st.sampled_from(["cls", "json"]))
def test_any_label_file_gives_a_label_or_a_data_error(data: bytes, suffix: str) -> None:
    try:
        label = label_in(suffix, data, "x")
    except DataError:
        return
    assert label is None or (isinstance(label, int | str) and label != "")


PNG, JPEG = (cv2.imencode(suffix, tiny_shards.pixels(0, 60))[1].tobytes() for suffix in (".png", ".jpg"))


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"png": None}, "has no image"),
        ({"png": None, "txt": "text"}, "has no image"),
        ({"png": b""}, "is not a whole image"),
        ({"png": PNG[:-200]}, "is not a whole image"),
        ({"png": b"<html>not found</html>"}, "is not a whole image"),
        ({"png": None, "jpg": JPEG[: len(JPEG) // 2]}, "is not a whole image"),
    ],
)
@pytest.mark.parametrize("name", ["train-0.tar", "train-0.tgz"])
def test_samples_without_a_whole_image_are_noted(tmp_path: Path, members: dict[str, Any], problem: str, name: str) -> None:
    shard = indexed(tmp_path, tiny_shards.sample(0), tiny_shards.sample(1, **members), tiny_shards.sample(2), name=name)
    assert [problem in sample.problem for sample in shard.samples] == [False, True, False]
    assert [bool(sample.problem) for sample in shard.samples] == [False, True, False]


def test_what_webdataset_does_not_see_is_not_seen(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "train-0.tar", "w") as archive:
        for name in ("folder.png", "__meta__.json", "no-suffix", "photos.v2/a.cls", "photos.v2/a.png", "photos.v2/a.seg.png"):
            member = tarfile.TarInfo(name)
            member.type = tarfile.DIRTYPE if name == "folder.png" else tarfile.REGTYPE
            content = b"5" if name.endswith("cls") else tiny_shards.sample(0)["png"]
            member.size = len(content) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(content))
    [sample] = read_index(str(tmp_path / "train-0.tar")).samples
    assert (sample.key, sample.label, sample.problem) == ("photos.v2/a", 5, "")


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def header_broken(content: bytes) -> bytes:
    middle = 6 * 512  # a header: each of the members takes a header and one block
    return content[:middle] + b"\xff" * 512 + content[middle + 512 :]


@pytest.mark.parametrize("name", ["train-0.tar", "train-0.tar.gz"])
@pytest.mark.parametrize("damage", [cut, header_broken, lambda content: content[:1536], lambda content: b"", lambda content: b"text" * 400])
def test_broken_shards_are_named(tmp_path: Path, damage: Any, name: str) -> None:
    whole = tiny_shards.write(tmp_path / "whole.tar", [tiny_shards.sample(number) for number in range(4)]).read_bytes()
    broken = damage(whole)
    (tmp_path / name).write_bytes(gzip.compress(broken) if name.endswith(".gz") else broken)
    with pytest.raises(DataError, match=rf"{name} (is no sound tar file|cannot be read)"):
        read_index(str(tmp_path / name))


def test_a_download_that_is_cut_short_is_named(tmp_path: Path) -> None:
    whole = tiny_shards.write(tmp_path / "train-0.tar", [tiny_shards.sample(number) for number in range(4)])
    whole.write_bytes(cut(whole.read_bytes()))
    with tiny_shards.served(tmp_path) as (url, _), pytest.raises(DataError, match=r"train-0\.tar"):
        read_index(f"{url}/train-0.tar")


@pytest.mark.parametrize("remote", [False, True])
def test_a_shard_is_indexed_again_only_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, remote: bool) -> None:
    read: list[str] = []
    monkeypatch.setattr(index, "read_index", lambda url: read.append(url) or read_index(url))
    shard = tiny_shards.write(tmp_path / "train-0.tar", [tiny_shards.sample(0)])
    with tiny_shards.served(tmp_path) as (url, _):
        place = f"{url}/train-0.tar" if remote else str(shard)
        assert index_of(place) == index_of(place)
        assert len(read) == 1
        tiny_shards.write(shard, [tiny_shards.sample(number) for number in range(30)])
        assert len(index_of(place).samples) == 30
        assert len(read) == 2
