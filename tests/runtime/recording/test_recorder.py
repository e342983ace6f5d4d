"""Recording of events from frames and results: what is kept, of which source, within which bounds."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes import FakeEngine
from watching import (
    BEGIN_S,
    INTERVAL_S,
    LABELS,
    Origin,
    bytes_in,
    clips_of,
    frame_of,
    frames_in,
    noise_of,
    record,
    recorder_of,
    result_of,
)

from edgedistill import bundle
from edgedistill.errors import OutputError
from edgedistill.runtime.camera import Classifier, Result
from edgedistill.runtime.recording import Recorder, RecordOptions, watched
from edgedistill.runtime.recording.event import ClipEvent
from edgedistill.runtime.recording.shelf import Shelf


def told_of(folder: Path) -> dict[str, object]:
    (found,) = folder.glob("*.json")
    told = json.loads(found.read_text())
    assert isinstance(told, dict)
    return told


def grey_of(picture: Path) -> int:
    image = cv2.imread(str(picture))
    assert image is not None
    return round((float(image.mean()) - 20) / 3)


def test_an_event_is_a_clip_with_what_was_before_and_after(tmp_path: Path) -> None:
    recorder = record(recorder_of(tmp_path), [0] * 10 + [0.9] * 5 + [0] * 10)
    recorder.close()
    (clip,) = clips_of(tmp_path)
    assert frames_in(clip) == list(range(6, 17))
    assert cv2.VideoCapture(str(clip)).get(cv2.CAP_PROP_FPS) == pytest.approx(1 / INTERVAL_S, rel=0.01)
    told = told_of(tmp_path)
    assert (told["label"], told["score"], told["source"]) == ("cat", 0.9, {"index": 0, "name": "cam0"})
    assert told["begin_s"] == pytest.approx(BEGIN_S + 1.0)
    assert told["end_s"] == pytest.approx(BEGIN_S + 1.6)
    assert (told["frames"], told["pre_roll_frames"], told["recovered"]) == (11, 4, False)
    assert told["scores"] == [0] * 4 + [0.9] * 5 + [0] * 2
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".avi", ".json"]


def test_a_clip_is_in_work_until_its_event_is_over(tmp_path: Path) -> None:
    recorder = record(recorder_of(tmp_path), [0.9] * 5)
    assert [path.name[0] for path in tmp_path.iterdir()] == ["."]
    record(recorder, [0] * 5, first=5)
    assert len(clips_of(tmp_path)) == 1, "the recorder need not be closed for that"
    recorder.close()


@pytest.mark.parametrize(
    ("classes", "watched"), [((), (0, 1)), (("cat",), (0,)), (("dog",), (1,)), (("dog", "cat"), (0, 1)), (("cat", "cat"), (0,))]
)
def test_the_wished_classes_are_watched(tmp_path: Path, classes: tuple[str, ...], watched: tuple[int, ...]) -> None:
    assert RecordOptions(folder=tmp_path, classes=classes).class_ids(LABELS) == watched


@pytest.mark.parametrize(("classes", "events"), [((), 1), (("red",), 1), (("blue",), 1), (("green",), 0)])
def test_a_class_makes_events_also_where_another_is_likelier(
    bundle_path: Path, tmp_path: Path, classes: tuple[str, ...], events: int
) -> None:
    """The card is red with some blue in it, and nothing is reported but what is nearly certain."""
    card = np.full((32, 32, 3), (180, 0, 200), np.uint8)
    loaded = bundle.load(bundle_path)
    options = RecordOptions(folder=tmp_path / "events", classes=classes, above=0.05, below=0.02)
    watched = options.class_ids(loaded.manifest.labels)
    classify = Classifier(loaded, FakeEngine(loaded.manifest.files[0]), threshold=0.99, watched=watched)
    recorder = Recorder(options, [Origin("cam0")])
    for number in range(5):
        frame = frame_of(number)._replace(frame_bgr=card)
        result = classify(frame)
        assert result.top_k == ()
        recorder.write(frame, result)
    recorder.close()
    assert len(clips_of(tmp_path / "events")) == events
    assert not events or told_of(tmp_path / "events")["label"] == (classes or ("red",))[0]


def test_results_that_watch_nothing_are_an_error(tmp_path: Path) -> None:
    recorder = recorder_of(tmp_path)
    frame = frame_of(0)
    with pytest.raises(OutputError, match=r"watch no class; give their Classifier RecordOptions\.class_ids"):
        recorder.write(frame, Result((), 0, 0.0, BEGIN_S, {}, 0))
    recorder.close()
    assert list(tmp_path.iterdir()) == []


def test_each_source_has_its_own_events(tmp_path: Path) -> None:
    recorder = recorder_of(tmp_path, sources=[Origin("attic"), Origin("cellar")])
    record(recorder, [0] * 3 + [0.9] * 3 + [0] * 5, sources=2).close()
    assert [path.stem[-5:] for path in clips_of(tmp_path)] == ["cat-0", "cat-1"]
    told = [json.loads(path.with_suffix(".json").read_text())["source"] for path in clips_of(tmp_path)]
    assert told == [{"index": 0, "name": "attic"}, {"index": 1, "name": "cellar"}]


def test_a_file_is_recorded_at_its_own_speed_however_fast_it_is_read(tmp_path: Path) -> None:
    recorder = recorder_of(tmp_path, sources=[Origin("clip.mp4", live=False, fps=25.0)], pre_roll_s=0.2, post_roll_s=0.2)
    for number, score in enumerate([0] * 50 + [0.9] * 25 + [0] * 50):
        frame = frame_of(number, interval_s=0.001)
        recorder.write(frame, result_of(frame, score))
    recorder.close()
    (clip,) = clips_of(tmp_path)
    assert frames_in(clip)[0] == 44
    assert len(frames_in(clip)) == 6 + 25 + 4
    assert cv2.VideoCapture(str(clip)).get(cv2.CAP_PROP_FPS) == pytest.approx(25.0)


@pytest.mark.parametrize(("pre_roll_s", "before"), [(0.35, [7]), (0.0, [])])
def test_stills_are_the_best_picture_and_one_from_before(tmp_path: Path, pre_roll_s: float, before: list[int]) -> None:
    scores = [0.0] * 10 + [0.85, 0.99, 0.9] + [0.0] * 5
    recorder = recorder_of(tmp_path, kind="stills", pre_roll_s=0.4 if pre_roll_s else 0.0)
    record(recorder, scores).close()
    assert [grey_of(picture) for picture in tmp_path.glob("*-0.jpg")] == [11]
    found = [grey_of(picture) for picture in tmp_path.glob("*-before.jpg")]
    assert len(found) == len(before)
    assert all(5 <= number < 10 for number in found)
    assert clips_of(tmp_path) == []
    told = told_of(tmp_path)
    assert (told["score"], told["frames"]) == (0.99, 5), "all frames of the event are told, not only the kept one"
    assert told["end_s"] == pytest.approx(BEGIN_S + 1.4)


def test_a_long_event_goes_on_in_a_new_clip(tmp_path: Path) -> None:
    record(recorder_of(tmp_path, longest_s=1.0), [0.9] * 25).close()
    found = [frames_in(clip) for clip in clips_of(tmp_path)]
    assert [number for clip in found for number in clip] == list(range(25))
    assert len(found) == 3


def test_a_change_of_size_begins_a_new_clip(tmp_path: Path) -> None:
    recorder = record(recorder_of(tmp_path), [0.9] * 3)
    for number in range(3, 6):
        frame = frame_of(number, size_hw=(30, 40))
        recorder.write(frame, result_of(frame, 0.9))
    recorder.close()
    assert [frames_in(clip) for clip in clips_of(tmp_path)] == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("first", [100, 0])
def test_an_outage_or_a_clock_that_goes_back_ends_the_clip(tmp_path: Path, first: int) -> None:
    recorder = record(recorder_of(tmp_path), [0.9] * 5, first=30)
    record(recorder, [0.9] * 5, first=first).close()
    assert sorted(frames_in(clip) for clip in clips_of(tmp_path)) == sorted(
        [[*range(30, 35)], [number % 70 for number in range(first, first + 5)]]
    )
    for clip in clips_of(tmp_path):
        assert cv2.VideoCapture(str(clip)).get(cv2.CAP_PROP_FPS) == pytest.approx(10.0, rel=0.01)


def test_fewer_frames_a_second_are_kept_if_wished(tmp_path: Path) -> None:
    record(recorder_of(tmp_path, fps=5.0), [0] * 10 + [0.9] * 10 + [0] * 5).close()
    (clip,) = clips_of(tmp_path)
    assert frames_in(clip) == [6, 8, 10, 12, 14, 16, 18, 20]
    assert cv2.VideoCapture(str(clip)).get(cv2.CAP_PROP_FPS) == pytest.approx(5.0)


def test_no_picture_is_encoded_that_nobody_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded, count = watched.encoded, []
    monkeypatch.setattr(watched, "encoded", lambda frame_bgr: count.append(1) or encoded(frame_bgr))
    record(recorder_of(tmp_path, pre_roll_s=0.0), [0] * 10 + [0.9] * 3 + [0] * 10).close()
    assert len(count) == 5, "the event with its post-roll"


def test_the_oldest_events_make_room(tmp_path: Path) -> None:
    (tmp_path / "mine.avi").write_bytes(bytes(900_000))
    (tmp_path / "20200101T000000-cat-0.avi").write_bytes(bytes(990_000))
    (tmp_path / "20200101T000000-cat-0.json").write_bytes(b"{}")
    record(recorder_of(tmp_path, quota_bytes=1_000_000), [0] * 3 + [0.9] * 10 + [0] * 5).close()
    assert (tmp_path / "mine.avi").exists(), "what is no event is not ours"
    assert not (tmp_path / "20200101T000000-cat-0.avi").exists()
    assert not (tmp_path / "20200101T000000-cat-0.json").exists()


@pytest.mark.parametrize("sources", [1, 3])
def test_the_quota_is_never_exceeded_also_not_by_what_is_in_work(tmp_path: Path, sources: int) -> None:
    recorder = recorder_of(tmp_path, quota_bytes=1_000_000, sources=[Origin("cam")] * sources)
    for number in range(100 // sources):
        for source in range(sources):
            frame = noise_of(number)._replace(source=source)
            recorder.write(frame, result_of(frame, 0.9 if number % 9 < 7 or number > 40 else 0.0))
            assert bytes_in(tmp_path) <= 1_000_000
    recorder.close()
    assert 500_000 < bytes_in(tmp_path) <= 1_000_000
    for clip in clips_of(tmp_path):
        assert len(frames_in(clip)) == json.loads(clip.with_suffix(".json").read_text())["frames"]


def test_pictures_that_are_larger_than_the_quota_are_an_error(tmp_path: Path) -> None:
    recorder = recorder_of(tmp_path, quota_bytes=1_000_000)
    recorder._watched[0]._options = RecordOptions(folder=tmp_path)  # so that only the shelf knows the quota
    recorder._shelf.quota_bytes = 10_000
    frame = noise_of(0)
    with pytest.raises(OutputError, match="too little for one picture"):
        recorder.write(frame, result_of(frame, 0.9))
    recorder.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OutputError("the disk is full; make room")])
def test_a_full_disk_ends_the_clip_and_recording_goes_on_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    recorder = record(recorder_of(tmp_path), [0.9] * 5)

    def full(folder: Path, needed_bytes: int = 0) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(watched, "require_room", full)
        for number in (5, 6):
            frame = frame_of(number)
            with pytest.raises(OutputError, match="make room"):
                recorder.write(frame, result_of(frame, 0.9))
            assert [frames_in(clip) for clip in clips_of(tmp_path)] == [[0, 1, 2, 3, 4]]
    record(recorder, [0.9], first=7).close()
    assert sorted(frames_in(clip) for clip in clips_of(tmp_path)) == [[0, 1, 2, 3, 4], [7]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"above": 0.5, "below": 0.7}, "the second not above the first"),
        ({"above": 1.5}, "expected probabilities"),
        ({"pre_roll_s": -1.0}, "seconds of 0 or more"),
        ({"post_roll_s": float("nan")}, "seconds of 0 or more"),
        ({"longest_s": 0.0}, "has more than 0"),
        ({"fps": 0.0}, "a number above 0"),
        ({"quota_bytes": 10}, "too little"),
    ],
)
def test_what_cannot_be_recorded(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(OutputError, match=message):
        recorder_of(tmp_path, **options)


def test_without_a_lower_threshold_it_is_under_the_upper_one(tmp_path: Path) -> None:
    assert [RecordOptions(folder=tmp_path, above=above).lower for above in (0.8, 0.1)] == [pytest.approx(0.6), 0.0]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="give a folder that can be written to"):
        recorder_of(tmp_path / "file" / "events")


def test_an_event_that_cannot_be_finished_does_not_hold_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = record(recorder_of(tmp_path, sources=[Origin("attic"), Origin("cellar")]), [0.9] * 3, sources=2)
    finish = ClipEvent.finish
    failures = iter([OSError(28, "No space left on device")])

    def full(event: ClipEvent) -> None:
        for error in failures:
            event._clip.abandon()
            raise error
        finish(event)

    monkeypatch.setattr(ClipEvent, "finish", full)
    with pytest.raises(OutputError, match="No space left on device"):
        recorder.close()
    assert [path.stem[-5:] for path in clips_of(tmp_path)] == ["cat-1"]
    recorder_of(tmp_path).close()
    assert [path.stem[-5:] for path in clips_of(tmp_path)] == ["cat-0", "cat-1"], "the folder is free, and the next run makes it whole"


def test_a_folder_that_cannot_be_looked_through_is_free_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(shelf: Shelf) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Shelf, "look_through", broken)
        with pytest.raises(OutputError, match="give a folder that can be written to"):
            recorder_of(tmp_path)
    recorder_of(tmp_path).close()


def test_a_class_that_there_is_not_is_told_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"no class 'cta' to record; known: cat, dog\. Did you mean 'cat'"):
        RecordOptions(folder=tmp_path, classes=("dog", "cta")).class_ids(LABELS)
