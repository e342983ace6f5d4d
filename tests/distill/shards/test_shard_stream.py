"""Batches from shards: the same from any place, for any number of workers and processes, from any batch on."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_shards
import torch

from edgedistill.bundle import Preprocess
from edgedistill.distill.images import ImageSet
from edgedistill.distill.loader import EpochOrder, Share, ViewBatch, Views, load
from edgedistill.distill.shards import order
from edgedistill.distill.shards.source import open_shards
from edgedistill.errors import DataError
from edgedistill.recipe import Augment

SPEC = Preprocess(height=8, width=8)
AUGMENT = Augment(flip=True, shift=0.2, noise=0.1)
SHARDS = [range(start, start + 9) for start in range(0, 45, 9)]


def opened(text: str) -> ImageSet:
    return open_shards(text)[0]["train"]


def batches(images: ImageSet, *, workers: int = 0, size: int = 8, **keys: Any) -> list[ViewBatch]:
    epoch = keys.pop("epoch", 0)
    views = Views(images, seed=7, view=epoch, augment=AUGMENT, spec=SPEC)
    return list(load(views, EpochOrder(len(images), size, seed=7, epoch=epoch, **keys), workers=workers))


def assert_same(first: list[ViewBatch], second: list[ViewBatch]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a[:6], b[:6], strict=True))


@pytest.fixture(params=["few images", "many lanes"])
def window(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that are shuffled as a whole, and lanes and tracks as large data has them."""
    if request.param == "many lanes":
        monkeypatch.setattr(order, "WINDOW", 4)


@pytest.mark.usefixtures("window")
def test_plain_compressed_and_remote_shards_give_the_same_batches(tmp_path: Path) -> None:
    plain = batches(opened(tiny_shards.write_numbers(tmp_path, *SHARDS)))
    assert_same(plain, batches(opened(tiny_shards.write_numbers(tmp_path, *SHARDS, suffix="tgz"))))
    with tiny_shards.served(tmp_path) as (url, _):
        assert_same(plain, batches(opened(f"{url}/train-{{0..4}}.tar")))
    assert len(plain) == 5
    for batch in plain:
        assert batch.labels.tolist() == (batch.positions % 3).tolist()


@pytest.mark.usefixtures("window")
@pytest.mark.parametrize("suffix", ["tar", "tgz"])
@pytest.mark.parametrize("start", [1, 3, 5])
def test_resuming_in_the_middle_of_an_epoch_gives_the_rest_of_it(tmp_path: Path, suffix: str, start: int) -> None:
    images = opened(tiny_shards.write_numbers(tmp_path, *SHARDS, suffix=suffix))
    assert_same(batches(images)[start:], batches(images, start=start))


@pytest.mark.usefixtures("window")
@pytest.mark.parametrize("suffix", ["tar", "tgz"])
def test_two_processes_see_together_what_one_sees(tmp_path: Path, suffix: str) -> None:
    images = opened(tiny_shards.write_numbers(tmp_path, *SHARDS, suffix=suffix))
    whole = batches(images)
    parts = [batches(images, share=Share(rank, 2)) for rank in range(2)]
    assert len(parts[0]) == len(parts[1]) == len(whole)
    for batch, first, second in zip(whole, *parts, strict=True):
        assert batch.positions.tolist()[0::2] == first.positions.tolist()
        assert batch.positions.tolist()[1::2] == second.positions.tolist()
    seen = torch.cat([batch.positions for part in parts for batch in part]).tolist()
    assert len(set(seen)) == len(seen) == 40


def test_a_resumed_stream_does_not_read_shards_that_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "WINDOW", 1)
    with tiny_shards.served(tmp_path) as (url, seen):
        tiny_shards.write_numbers(tmp_path, *SHARDS)
        images = opened(f"{url}/train-{{0..4}}.tar")
        seen.clear()
        batches(images)
        assert len(set(seen)) == 5
        seen.clear()
        batches(images, start=4)
        assert 0 < len(set(seen)) < 5


def test_epochs_differ_and_repeat(tmp_path: Path) -> None:
    images = opened(tiny_shards.write_numbers(tmp_path, *SHARDS))
    first, second = batches(images), batches(images, epoch=1)
    assert_same(first, batches(images))
    assert [batch.positions.tolist() for batch in first] != [batch.positions.tolist() for batch in second]


def test_a_view_is_the_same_in_another_sharding(tmp_path: Path) -> None:
    first = opened(tiny_shards.write_numbers(tmp_path / "a", *SHARDS))
    mixed = np.random.default_rng(0).permutation(45)
    second = opened(tiny_shards.write_numbers(tmp_path / "b", mixed[:30].tolist(), mixed[30:].tolist()))
    one, other = (Views(images, seed=7, view=3, augment=AUGMENT, spec=SPEC) for images in (first, second))
    for position, number in enumerate(mixed.tolist()):
        assert np.array_equal(other[position].pixels, one[number].pixels)
        assert other[position].label == one[number].label


def test_a_subset_is_streamed_without_the_rest(tmp_path: Path) -> None:
    images = opened(tiny_shards.write_numbers(tmp_path, *SHARDS, suffix="tgz")).balanced(24)
    found = batches(images)
    assert len(found) == 3
    for batch in found:
        assert images.numbers[batch.positions.numpy()].tolist() == batch.numbers.tolist()
    assert sorted(torch.cat([batch.positions for batch in found]).tolist()) == list(range(24))


@pytest.mark.parametrize("suffix", ["tar", "tgz"])
def test_batches_in_a_given_order_are_read(tmp_path: Path, suffix: str) -> None:
    images = opened(tiny_shards.write_numbers(tmp_path, *SHARDS, suffix=suffix))
    views = Views(images, seed=7, view=0, augment=AUGMENT, spec=SPEC)
    wanted = [list(range(start, start + 5)) for start in range(0, 45, 5)]
    found = [batch.positions.tolist() for batch in load(views, wanted, workers=0)]
    assert found == wanted


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    images = opened(tiny_shards.write_numbers(tmp_path, *SHARDS, suffix="tgz"))
    tiny_shards.write(tmp_path / "train-2.tgz", [tiny_shards.sample(18)])
    with pytest.raises(DataError, match=r"train-2.tgz: photo-00\d\d is no longer there"):
        batches(images)


def test_a_broken_image_in_a_stream_has_no_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(tiny_shards.sample(0)["png"])
    data[40:80] = bytes(40)
    samples = [tiny_shards.sample(number, **({"png": bytes(data)} if number == 50 else {})) for number in range(104)]
    tiny_shards.write(tmp_path / "train-0.tgz", samples)
    images = opened(f"{tmp_path}/train-0.tgz")
    with pytest.warns(UserWarning, match="photo-0050 cannot be decoded"):
        found = batches(images)
    labels = {int(position): int(label) for batch in found for position, label in zip(batch.positions, batch.labels, strict=True)}
    assert [position for position, label in labels.items() if label < 0] == [50]


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_batches(tmp_path: Path) -> None:
    """In a process of its own: workers are forked, and other tests' converters leave threads here."""
    script = """if True:
        import sys
        from pathlib import Path
        import test_shard_stream as t, tiny_shards
        from edgedistill.distill.shards import order
        folder = Path(sys.argv[1])
        plain = t.opened(tiny_shards.write_numbers(folder, *t.SHARDS))
        packed = t.opened(tiny_shards.write_numbers(folder, *t.SHARDS, suffix="tgz"))
        for order.WINDOW in (4, 8192):
            first = t.batches(plain)
            for images, workers in ((plain, 2), (packed, 2)):
                t.assert_same(first, t.batches(images, workers=workers))
            t.assert_same(first[2:], t.batches(packed, workers=2, start=2))
    """
    here = Path(__file__).parent
    path = f"import sys; sys.path[:0] = [{str(here)!r}, {str(here.parent)!r}]; "
    subprocess.run([sys.executable, "-W", "error", "-c", path + "exec(sys.argv.pop())", str(tmp_path), script], check=True)
