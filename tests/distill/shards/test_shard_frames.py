"""Images of shards by their number: local, compressed and remote."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import tiny_shards

from edgedistill.distill.images import STAND_IN
from edgedistill.distill.shards import frames
from edgedistill.distill.shards.frames import Shards, number_of
from edgedistill.distill.shards.index import read_index
from edgedistill.errors import DataError

SPLIT = (range(5), range(5, 8), range(8, 12))


def opened(folder: Path, *, suffix: str = "tar", place: str | None = None) -> Shards:
    tiny_shards.write_numbers(folder, *SPLIT, suffix=suffix)
    return Shards([read_index(f"{place or folder}/train-{number}.{suffix}") for number in range(len(SPLIT))])


@pytest.mark.parametrize("suffix", ["tar", "tgz"])
def test_images_come_by_number_in_any_order(tmp_path: Path, suffix: str) -> None:
    shards = opened(tmp_path, suffix=suffix)
    assert (len(shards), shards.is_seekable) == (12, suffix == "tar")
    for number in (3, 4, 0, 11, 5, 5, 7, 2):
        assert np.array_equal(shards[number], tiny_shards.pixels(number))


def test_a_remote_shard_is_read_once_in_ascending_order(tmp_path: Path) -> None:
    with tiny_shards.served(tmp_path) as (url, seen):
        shards = opened(tmp_path, place=url)
        seen.clear()
        for number in (0, 1, 3, 4, 6, 11):
            assert np.array_equal(shards[number], tiny_shards.pixels(number))
        assert seen == [f"GET /train-{number}.tar" for number in range(3)]
        assert np.array_equal(shards[9], tiny_shards.pixels(9))
        assert len(seen) == 4


def test_images_that_are_held_are_not_read_again(tmp_path: Path) -> None:
    with tiny_shards.served(tmp_path) as (url, seen):
        shards = opened(tmp_path, place=url)
        seen.clear()
        shards.hold(np.array([11, 2, 8]))
        shards.hold(np.array([2]))
        assert seen == ["GET /train-0.tar", "GET /train-2.tar"]
    for number in (8, 2, 11, 2):
        assert np.array_equal(shards[number], tiny_shards.pixels(number))


def test_another_process_reads_on_its_own(tmp_path: Path) -> None:
    shards = opened(tmp_path, suffix="tgz")
    assert shards[1] is not None
    copy = pickle.loads(pickle.dumps(shards))
    assert np.array_equal(copy[2], tiny_shards.pixels(2))
    assert np.array_equal(shards[2], tiny_shards.pixels(2))


def test_view_numbers_are_a_function_of_the_key_alone(tmp_path: Path) -> None:
    first = opened(tmp_path / "a")
    tiny_shards.write(tmp_path / "b.tar", [tiny_shards.sample(number) for number in reversed(range(12))])
    second = Shards([read_index(str(tmp_path / "b.tar"))])
    assert first.numbers.tolist() == second.numbers[::-1].tolist()
    assert len(set(first.numbers.tolist())) == 12
    assert first.numbers[7] == number_of("photo-0007") == 707072989851232477
    assert first.fingerprint(7) == second.fingerprint(4)


def test_a_broken_image_is_named_and_a_grey_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_BROKEN", 0.4)
    images = [bytearray(tiny_shards.sample(number)["png"]) for number in range(4)]
    for broken in images[:2]:
        broken[40:80] = bytes(40)  # inside: both ends are as they should be
    tiny_shards.write(tmp_path / "train-0.tar", [tiny_shards.sample(number, png=bytes(data)) for number, data in enumerate(images)])
    shards = Shards([read_index(str(tmp_path / "train-0.tar"))])
    with pytest.warns(UserWarning, match=r"train-0\.tar: photo-0000 cannot be decoded .* a grey image without a label stands in"):
        assert shards[0] is STAND_IN
    with pytest.warns(UserWarning, match="photo-0000"):
        assert shards[0] is STAND_IN
    with pytest.raises(DataError, match=r"photo-0001.*2 of 4 images in the shards are like that"):
        shards[1]


def test_a_shard_that_changes_while_it_is_in_use_is_an_error(tmp_path: Path) -> None:
    shards = opened(tmp_path, suffix="tgz")
    tiny_shards.write(tmp_path / "train-0.tgz", [tiny_shards.sample(0)])
    with pytest.raises(DataError, match=r"photo-0003 is no longer there"):
        shards[3]
