"""Clips that play: their format, full disks, and what is left of a torn one."""

from __future__ import annotations

import errno
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from watching import BEGIN_S, INTERVAL_S, NOTE, frames_in, picture_of

from edgedistill.runtime.recording import avi
from edgedistill.runtime.recording.clip import Clip, Note, rate
from edgedistill.runtime.recording.recover import recover
from edgedistill.runtime.recording.stamp import Stamp, stamp_of, stamped

STEM = "20240101T000000-cat-0"
JPEG = picture_of(1).jpeg


@given(st.tuples(st.floats(0, 1e9), st.floats(0, 2e9), st.floats(0, 1), st.text(max_size=150)))
def test_a_stamp_is_read_back(given: tuple[float, float, float, str]) -> None:
    stamp = Stamp(*given)
    assert stamp_of(stamped(JPEG, stamp)[:4096]) == stamp


def test_a_stamped_picture_is_the_same_picture() -> None:
    after = stamped(JPEG, Stamp(1, 2, 0.5, "x" * 9000))
    assert after != JPEG
    before_bgr, after_bgr = (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in (JPEG, after))
    np.testing.assert_array_equal(before_bgr, after_bgr)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_stamp_have_none(data: bytes) -> None:
    assert stamp_of(data) is None
    comment = b"edgedistill " + data
    assert stamp_of(b"\xff\xd8\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment) is None


@pytest.mark.parametrize("backend", [cv2.CAP_FFMPEG, cv2.CAP_OPENCV_MJPEG])
@pytest.mark.parametrize("count", [1, 2, 30])
def test_a_clip_is_read_back_frame_by_frame_at_its_speed(tmp_path: Path, count: int, backend: int) -> None:
    clip = Clip(tmp_path / f"{STEM}.avi", NOTE)
    for number in range(count):
        clip.add(picture_of(number))
        assert [path.name for path in tmp_path.iterdir()] == [f".{STEM}.work.part"]
    assert len(clip.finish()) == count
    assert [path.name for path in tmp_path.iterdir()] == [f"{STEM}.avi"]
    assert frames_in(tmp_path / f"{STEM}.avi", backend) == list(range(count))
    fps = cv2.VideoCapture(str(tmp_path / f"{STEM}.avi"), backend).get(cv2.CAP_PROP_FPS)
    assert fps == pytest.approx(1.0 if count == 1 else 1 / INTERVAL_S, rel=1e-3)


@pytest.mark.parametrize(("times", "fps"), [([], 1.0), ([5.0], 1.0), ([1.0, 1.0], 1.0), ([0.0, 0.1, 0.5], 4.0), ([0.0, 1e-9], 1000.0)])
def test_the_rate_makes_a_clip_last_as_long_as_the_event(times: list[float], fps: float) -> None:
    assert rate(times) == pytest.approx(fps)


def test_a_note_that_is_too_long_is_a_bug() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        avi.head([], size_hw=(4, 4), fps=1.0, note=bytes(5000))


class SmallDisk(io.FileIO):
    """A file on a disk with room for so many bytes, which takes what fits before it fails, as file systems do."""

    room = 0

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        fits = min(len(view), self.room - self.tell())
        if fits <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(view[:fits])


def on_small_disk(folder: Path, room: int) -> Clip:
    def opened(path: Path) -> io.FileIO:
        disk = SmallDisk(path, "w+")
        disk.room = room
        return disk

    return Clip(folder / f"{STEM}.avi", NOTE, opened=opened)


@pytest.mark.parametrize("room", [avi.HEAD_BYTES + 1, 6000, 7013, 9001, 12000])
def test_a_full_disk_leaves_a_clip_of_what_fitted(tmp_path: Path, room: int) -> None:
    clip = on_small_disk(tmp_path, room)
    with pytest.raises(OSError, match="No space left"):
        any(clip.add(picture_of(number)) for number in range(1000))
    added = len(clip.entries)
    with pytest.raises(OSError, match="No space left"):
        clip.add(picture_of(added))
    kept = len(clip.finish())
    assert kept <= added
    assert kept >= added - 1
    if kept:
        assert frames_in(tmp_path / f"{STEM}.avi") == list(range(kept))
        assert (tmp_path / f"{STEM}.avi").stat().st_size <= room
    else:
        assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_for_anything_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        on_small_disk(tmp_path, 100)
    assert list(tmp_path.iterdir()) == []


def in_work(folder: Path, pictures: int = 4) -> Path:
    clip = Clip(folder / f"{STEM}.avi", NOTE)
    for number in range(pictures):
        clip.add(picture_of(number))
    clip.abandon()
    return clip.work


def test_a_file_torn_at_any_place_is_recovered_up_to_its_last_whole_picture(tmp_path: Path) -> None:
    whole = in_work(tmp_path).read_bytes()
    (tmp_path / f".{STEM}.work.part").unlink()
    steps = [0, 1, 100, avi.HEAD_BYTES - 1, *range(avi.HEAD_BYTES, len(whole), 97), len(whole) - 1, len(whole)]
    lengths = [avi.chunk_bytes(length) for length, _ in avi.pictures(io.BytesIO(whole), 10)]
    ends = [avi.HEAD_BYTES + sum(lengths[: count + 1]) for count in range(4)]
    for end in steps:
        (tmp_path / f".{STEM}.work.part").write_bytes(whole[:end])
        expected = sum(place <= end for place in ends)
        found = recover(tmp_path)
        assert len(found) == bool(expected)
        assert sorted(path.name for path in tmp_path.iterdir()) == ([f"{STEM}.avi", f"{STEM}.json"] if expected else [])
        if expected:
            assert frames_in(found[0]) == list(range(expected)), end
            found[0].unlink()
            found[0].with_suffix(".json").unlink()


def test_a_file_killed_while_it_was_finished_is_finished(tmp_path: Path) -> None:
    clip = Clip(tmp_path / f"{STEM}.avi", NOTE)
    for number in range(5):
        clip.add(picture_of(number))
    clip.finish()
    whole = (tmp_path / f"{STEM}.avi").read_bytes()
    index_bytes = 8 + 5 * 16
    for cut in (0, 1, index_bytes - 8, index_bytes):
        (tmp_path / f".{STEM}.work.part").write_bytes(whole[: len(whole) - cut])
        assert frames_in(recover(tmp_path)[0]) == list(range(5))
        assert (tmp_path / f"{STEM}.avi").read_bytes() == whole


def test_zeros_after_a_power_cut_are_left_out(tmp_path: Path) -> None:
    work = in_work(tmp_path)
    with work.open("r+b") as stream:
        stream.seek(-500, io.SEEK_END)
        stream.write(bytes(500))
    assert frames_in(recover(tmp_path)[0]) == [0, 1, 2]


DEEP = b"[" * 1500


@pytest.mark.parametrize(
    "note",
    [
        b'{"begin_s":1,"source":0,"source_name":"x","size_hw":[4,4],"later":' + DEEP,
        b'{"begin_s":' + b"9" * 3000,
        b'{"begin_s":1,"source":0,"source_name":"\xff","size_hw":[4,4]}',
        b'{"begin_s":1,"source":0,"source_name":"x","size_hw":[-1,4]}',
        b'{"begin_s":1,"source":0,"source_name":"x","size_hw":[4,1e9]}',
        b'{"begin_s":1,"source":0,"source_name":"x","size_hw":[4,32768]}',
    ],
)
def test_a_file_in_work_whose_note_is_none_is_removed(tmp_path: Path, note: bytes) -> None:
    picture = stamped(JPEG, Stamp(1, 2, 0.5, "cat"))
    head = avi.head([], size_hw=(4, 4), fps=1.0, note=note)
    (tmp_path / f".{STEM}.work.part").write_bytes(head + avi.chunk(picture))
    assert recover(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [DEEP, b"[" + b"9" * 2000, b'[1,2,0.5,"\xff"]', b"[1,2,0.5," + DEEP])
def test_a_stamp_that_is_broken_is_none(content: bytes) -> None:
    comment = b"edgedistill " + content
    assert stamp_of(b"\xff\xd8\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment) is None


@given(st.binary(max_size=300))
def test_any_rest_of_a_file_is_recovered_or_removed(tmp_path_factory: pytest.TempPathFactory, rest: bytes) -> None:
    folder = tmp_path_factory.mktemp("rest")
    (folder / f".{STEM}.work.part").write_bytes(rest)
    head = avi.head([], size_hw=(4, 4), fps=1.0, note=rest[:50])
    (folder / ".20240101T000000-dog-0.work.part").write_bytes(head + rest)
    assert recover(folder) == []
    assert list(folder.iterdir()) == []


def test_a_clip_that_nothing_tells_of_is_told(tmp_path: Path) -> None:
    clip = Clip(tmp_path / f"{STEM}.avi", Note(BEGIN_S + 0.2, 3, "attic", (48, 64)))
    for number, score in enumerate([0.1, 0.2, 0.9, 0.95, 0.3]):
        clip.add(picture_of(number, score=score))
    clip.finish()
    (tmp_path / "20240102T000000-cat-0.json").write_text("{}")
    (tmp_path / "mine.json").write_text("{}")
    (tmp_path / "mine.avi").write_text("")
    (tmp_path / ".20240102T000000-cat-0.jpg.part").write_text("")
    (tmp_path / ".mine.part").write_text("")
    assert recover(tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.part", f"{STEM}.avi", f"{STEM}.json", "mine.avi", "mine.json"]
    assert json.loads((tmp_path / f"{STEM}.json").read_text()) == {
        "schema": 1,
        "label": "cat",
        "score": 0.95,
        "begin_s": BEGIN_S + 0.2,
        "end_s": BEGIN_S + 0.4,
        "source": {"index": 3, "name": "attic"},
        "size_hw": [48, 64],
        "recovered": True,
        "frames": 5,
        "fps": 10.0,
        "pre_roll_frames": 2,
        "offsets_s": [0.0, 0.1, 0.2, 0.3, 0.4],
        "scores": [0.1, 0.2, 0.9, 0.95, 0.3],
    }
