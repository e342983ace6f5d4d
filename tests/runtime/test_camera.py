"""The loop: right results in order, honest counts and times, and every way to end."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle
from fakes import FakeCamera, FakeEngine

from edgedistill import bundle
from edgedistill.bundle import Bundle
from edgedistill.errors import DataError, SourceError
from edgedistill.latency import STAGES
from edgedistill.runtime.camera import Classifier, LoopOptions, run
from edgedistill.runtime.ending import CaptureSource
from edgedistill.runtime.engines import open_engine
from edgedistill.runtime.frames import Frame, Traits

RED, GREEN, BLUE = (tiny_bundle.card(label) for label in tiny_bundle.LABELS)
FILE, LIVE = Traits("clip"), Traits("cam", live=True, ends=False)


@pytest.fixture(scope="module")
def loaded(bundle_path: Path) -> Bundle:
    return bundle.load(bundle_path)


@pytest.fixture
def classify(loaded: Bundle) -> Classifier:
    """Return a classifier with a fake engine."""
    return Classifier(loaded, FakeEngine(loaded.manifest.files[0]))


def source_of(frames: list[np.ndarray | Exception | None], traits: Traits = FILE, *, then: str = "die") -> CaptureSource:
    return CaptureSource(FakeCamera(frames, then=then, traits=traits))


@pytest.mark.parametrize("file", tiny_bundle.FILES)
def test_each_frame_gets_its_own_answer(loaded: Bundle, file: str) -> None:
    cards = [RED, BLUE, GREEN, GREEN, RED]
    with source_of([*cards]) as source:
        found = list(run(Classifier(loaded, open_engine(loaded, file)), source))
    assert [result.top_k[0].label for _, result in found] == ["red", "blue", "green", "green", "red"]
    assert [result.frame_id for _, result in found] == list(range(5))
    for (frame, result), card in zip(found, cards, strict=True):
        np.testing.assert_array_equal(frame.frame_bgr, card)
        assert (result.frame_id, result.captured_s, result.time_s, result.dropped) == (frame.id, frame.captured_s, frame.time_s, 0)


@pytest.mark.parametrize(("top_k", "threshold", "labels"), [(1, 0.0, 1), (3, 0.0, 3), (9, 0.0, 3), (3, 0.2, 1), (3, 1.0, 0)])
def test_top_k_and_threshold(loaded: Bundle, top_k: int, threshold: float, labels: int) -> None:
    classify = Classifier(loaded, open_engine(loaded), top_k=top_k, threshold=threshold)
    assert len(classify(Frame(0, RED, 0.0, 0.0, 0.0)).top_k) == labels


def test_stages_are_all_there_and_add_up(loaded: Bundle) -> None:
    classify = Classifier(loaded, FakeEngine(loaded.manifest.files[0], invoke_s=0.02))
    stages_ms = classify(Frame(0, RED, 0.0, 0.0, 5.0)).stages_ms
    assert tuple(stages_ms) == STAGES
    assert stages_ms["capture"] == 5.0
    assert stages_ms["invoke"] >= 20
    assert stages_ms["total"] == pytest.approx(sum(stages_ms[stage] for stage in STAGES[:-1]))


def test_a_frame_that_is_none_is_refused(classify: Classifier) -> None:
    with pytest.raises(DataError, match="a frame must be"):
        classify(Frame(0, np.zeros((3, 3), np.uint8), 0.0, 0.0, 0.0))


@pytest.mark.parametrize("frames", [1, 3])
def test_the_run_ends_after_so_many_frames(classify: Classifier, frames: int) -> None:
    with source_of([RED] * 9) as source:
        assert len(list(run(classify, source, options=LoopOptions(frames=frames)))) == frames


def test_the_run_ends_after_its_duration(classify: Classifier) -> None:
    camera = FakeCamera([RED] * 3, then="stall")
    with CaptureSource(camera) as source:
        found = list(run(classify, source, options=LoopOptions(duration_s=0.25)))
        camera.unblock.set()
    assert len(found) <= 3


def test_the_run_ends_when_it_is_told_to(classify: Classifier) -> None:
    stop = threading.Event()
    with source_of([RED] * 99) as source:
        found = []
        for _, result in run(classify, source, stop=stop):
            found.append(result)
            if len(found) == 4:
                stop.set()
    assert len(found) == 4


def test_a_stop_before_the_first_frame_ends_it_too(classify: Classifier) -> None:
    camera = FakeCamera([], then="stall")
    stop = threading.Event()
    with CaptureSource(camera) as source:
        threading.Timer(0.05, stop.set).start()
        assert list(run(classify, source, stop=stop)) == []
        camera.unblock.set()


def test_a_loop_without_a_frame_says_that_it_goes_round(classify: Classifier) -> None:
    """And one that has frames does not: its results say it."""
    camera = FakeCamera([RED], then="stall")
    rounds: list[int] = []

    def idle() -> bool:
        rounds.append(len(found))
        return len(rounds) < 3

    found: list[int] = []
    with CaptureSource(camera) as source:
        for _, result in run(classify, source, idle=idle):
            found.append(result.frame_id)
        camera.unblock.set()
    assert len(rounds) == 3, "it may end the run"
    assert rounds[-2:] == [1, 1]
    with source_of([RED] * 9) as source:
        assert len(list(run(classify, source, idle=idle))) == 9
    assert len(rounds) == 3


def test_a_camera_that_dies_is_an_error_after_its_results(classify: Classifier) -> None:
    with source_of([RED], LIVE) as source:
        results = run(classify, source)
        assert next(results)[1].top_k[0].label == "red"
        with pytest.raises(SourceError, match="stopped delivering"):
            next(results)


def test_drops_are_counted_while_the_engine_is_busy(loaded: Bundle) -> None:
    camera = FakeCamera([RED] * 40, interval_s=0.002, then="stall")
    classify = Classifier(loaded, FakeEngine(loaded.manifest.files[0], invoke_s=0.02))
    stop = threading.Event()
    found = []
    with CaptureSource(camera) as source:
        for _, result in run(classify, source, stop=stop):
            found.append(result)
            if result.frame_id == 39:
                stop.set()
        camera.unblock.set()
    dropped = [result.dropped for result in found]
    assert dropped == sorted(dropped)
    assert len(found) + dropped[-1] == 40
    assert dropped[-1] > 0
