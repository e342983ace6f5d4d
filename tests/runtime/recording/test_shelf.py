"""The folder of events: names, quota, one run at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.errors import OutputError
from edgedistill.runtime.recording.shelf import EVENT, Shelf, slug

OLD = [f"2020010{day}T000000-cat-0" for day in range(1, 5)]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[int], Shelf]]:
    shelves: list[Shelf] = []

    def open_shelf(quota_bytes: int) -> Shelf:
        shelf = Shelf(tmp_path, quota_bytes)
        shelves.append(shelf)
        shelf.look_through()
        return shelf

    yield open_shelf
    for shelf in shelves:
        shelf.close()


def put(folder: Path, stem: str, size: int, suffix: str = ".avi") -> None:
    (folder / f"{stem}{suffix}").write_bytes(bytes(size))


def stems(folder: Path) -> list[str]:
    return sorted({path.name.partition(".")[0] for path in folder.iterdir()})


@given(st.text(max_size=80))
def test_no_label_leads_out_of_the_folder(label: str) -> None:
    name = slug(label)
    assert Path(name).name == name
    assert name not in ("", ".", "..")
    assert len(name) <= 40
    assert EVENT.fullmatch(f"20240101T000000-{name}-0")


def test_names_are_never_used_twice(tmp_path: Path, opened: Callable[[int], Shelf]) -> None:
    shelf = opened(10**9)
    first = shelf.free_name(1.7e9, "cat/../dog", 0)
    assert first.endswith("-cat-dog-0")
    put(tmp_path, first, 1, ".jpg")
    assert shelf.free_name(1.7e9, "cat/../dog", 0) == f"{first}-2"
    assert shelf.make_room(f"{first}-2", 10)
    assert shelf.free_name(1.7e9, "cat/../dog", 0) == f"{first}-3"


def test_the_oldest_events_make_room_with_all_that_belongs_to_them(tmp_path: Path, opened: Callable[[int], Shelf]) -> None:
    for stem in OLD:
        put(tmp_path, stem, 100)
        put(tmp_path, stem, 10, ".json")
        put(tmp_path, f"{stem}-before", 40, ".jpg")
    put(tmp_path, "mine", 5000)
    put(tmp_path, "20200101T000000-notes", 5000, ".txt")
    shelf = opened(1000)
    assert shelf.make_room("new", 399)
    assert shelf.make_room("new", 400)
    assert stems(tmp_path) == sorted(["20200101T000000-notes", "mine", *OLD, *(f"{stem}-before" for stem in OLD)])
    assert shelf.make_room("new", 401)
    assert stems(tmp_path) == sorted(["20200101T000000-notes", "mine", *OLD[1:], *(f"{stem}-before" for stem in OLD[1:])])
    assert shelf.make_room("new", 1000)
    assert not shelf.make_room("new", 1001)
    assert stems(tmp_path) == ["20200101T000000-notes", "mine"], "what is no event is not ours"


def test_events_in_work_of_all_sources_count(opened: Callable[[int], Shelf]) -> None:
    shelf = opened(1000)
    assert shelf.make_room("one", 600)
    assert not shelf.make_room("two", 401)
    assert shelf.make_room("two", 400)
    shelf.finished("one")
    assert shelf.make_room("two", 1000), "an event that left no file takes nothing"
    assert shelf.in_work("two") == 1000


def test_a_finished_event_counts_with_its_true_size_and_may_go(tmp_path: Path, opened: Callable[[int], Shelf]) -> None:
    shelf = opened(1000)
    name = shelf.free_name(1.7e9, "cat", 0)
    assert shelf.make_room(name, 900)
    put(tmp_path, name, 300)
    shelf.finished(name)
    assert shelf.make_room("next", 700)
    assert (tmp_path / f"{name}.avi").exists()
    assert shelf.make_room("next", 701)
    assert not (tmp_path / f"{name}.avi").exists()


def test_a_folder_that_is_over_the_quota_is_trimmed_at_the_start(tmp_path: Path, opened: Callable[[int], Shelf]) -> None:
    for stem in OLD:
        put(tmp_path, stem, 400)
    opened(1000)
    assert stems(tmp_path) == OLD[2:]


def test_events_that_somebody_removed_are_no_trouble(tmp_path: Path, opened: Callable[[int], Shelf]) -> None:
    for stem in OLD[:2]:
        put(tmp_path, stem, 400)
    shelf = opened(1000)
    (tmp_path / f"{OLD[0]}.avi").unlink()
    assert shelf.make_room("new", 600)
    assert stems(tmp_path) == OLD[1:2]


def test_two_runs_do_not_share_a_folder(tmp_path: Path, opened: Callable[[int], Shelf]) -> None:
    first = opened(1000)
    with pytest.raises(OutputError, match="another run records events to"):
        Shelf(tmp_path, 1000)
    first.close()
    opened(1000)
