"""The order of an epoch over shards: complete, repeatable, and such that a stream can deliver it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.distill.images import ImageSet
from edgedistill.distill.shards import order
from edgedistill.distill.shards.frames import Shards
from edgedistill.distill.shards.index import Sample, Shard
from edgedistill.distill.shards.order import power_of_two, stream_order


def image_set(sizes: list[int], taken: np.ndarray | None = None) -> ImageSet:
    """Return a set over shards of these sizes that are nowhere."""
    shards = [Shard(f"{place}.tar", False, [Sample(f"{place}-{number}") for number in range(size)]) for place, size in enumerate(sizes)]
    images = ImageSet.of(Shards(shards), np.zeros(sum(sizes)), ["a", "b"])
    return images if taken is None else images.take(taken)


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=20),
    batch_size=st.integers(1, 24),
    window=st.sampled_from([1, 10, 50, 8192]),
    seed=st.integers(0, 3),
    data=st.data(),
)
def test_each_image_is_in_at_most_one_batch(sizes: list[int], batch_size: int, window: int, seed: int, data: st.DataObject) -> None:
    whole = sum(sizes)
    kept = np.array(sorted(data.draw(st.sets(st.integers(0, whole - 1), min_size=1))))
    images = image_set(sizes, np.random.default_rng(seed).permutation(kept))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "WINDOW", window)
        found = stream_order(images, batch_size, seed=seed, epoch=1)
        again = stream_order(images, batch_size, seed=seed, epoch=1)
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))
    steps = len(kept) // batch_size
    assert len(found.positions) == len(set(found.positions.tolist())) == steps * batch_size
    assert sorted(found.place.tolist()) == list(range(len(kept)))
    assert sorted(np.flatnonzero(found.track < 0).tolist()) == sorted(set(range(len(kept))) - set(found.positions.tolist()))


def test_seeds_and_epochs_differ() -> None:
    images = image_set([40, 40])
    orders = [stream_order(images, 8, seed=seed, epoch=epoch).positions.tolist() for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_few_images_are_shuffled_as_a_whole() -> None:
    """The first batch is not made of neighbours: over all epochs each shard has its share of it."""
    images = image_set([50] * 8)
    firsts = np.concatenate([stream_order(images, 40, seed=0, epoch=epoch).positions[:40] for epoch in range(50)])
    share = np.bincount(firsts // 50, minlength=8) / len(firsts)
    assert np.abs(share - 1 / 8).max() < 0.03
    within_one = [len(set(stream_order(images, 40, seed=0, epoch=epoch).positions[:40] // 50)) for epoch in range(5)]
    assert min(within_one) >= 7


@pytest.fixture
def small_window(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(order, "WINDOW", 64)
    return 64


def test_a_lane_lies_in_the_shards_one_after_the_other(small_window: int) -> None:
    images = image_set([100] * 64)
    found = stream_order(images, 32, seed=0, epoch=0)
    lanes = order.LANES * order.TRACKS
    assert sorted(set(found.track.tolist()) - {-1}) == list(range(lanes))
    for track in range(lanes):
        places = np.sort(found.place[found.track == track])
        assert np.array_equal(places, np.arange(places[0], places[0] + len(places)))


def test_a_stream_holds_no_more_than_its_window(small_window: int) -> None:
    found = stream_order(image_set([100] * 64), 32, seed=0, epoch=0)
    window = small_window / (order.LANES * order.TRACKS)
    for track in range(order.LANES * order.TRACKS):
        places = found.place[found.positions[found.track[found.positions] == track]]
        late = np.arange(len(places)) + places.min() - places
        assert np.abs(late).max() <= window


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_workers_and_processes_share_the_tracks(small_window: int, workers: int, processes: int) -> None:
    found = stream_order(image_set([100] * 64), 32, seed=0, epoch=0)
    batches = found.positions.reshape(-1, 32)
    readers = [
        set(found.track[batches[worker::workers, rank::processes]].ravel().tolist())
        for worker in range(workers)
        for rank in range(processes)
    ]
    assert sum(len(tracks) for tracks in readers) == order.LANES * order.TRACKS
    assert set.union(*readers) == set(range(order.LANES * order.TRACKS))


@pytest.mark.parametrize(("limit", "power"), [(-1, 1), (0, 1), (1, 1), (2, 2), (3, 2), (8, 8), (9, 8)])
def test_powers_of_two(limit: int, power: int) -> None:
    assert power_of_two(limit) == power
