"""Frames that are prepared while the network runs: the same answers, honest times, memory that is used again, and no new way to fail."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle
from fakes import FakeCamera, FakeEngine
from memory import traced_growth, traced_peak
from reading import LONG_S

from edgedistill import bundle
from edgedistill.bundle import Bundle
from edgedistill.errors import DataError
from edgedistill.runtime.ahead import Ahead
from edgedistill.runtime.camera import Classifier, LoopOptions, run
from edgedistill.runtime.ending import CaptureSource
from edgedistill.runtime.engines import open_engine
from edgedistill.runtime.frames import Frame, SlotSource, Traits
from edgedistill.runtime.live import LiveSource
from edgedistill.runtime.turns import Turns

FILE = Traits("clip")
FRAMES = [np.random.default_rng(number).integers(0, 256, (31, 50, 3), np.uint8) for number in range(6)]


@pytest.fixture(scope="module")
def loaded(bundle_path: Path) -> Bundle:
    return bundle.load(bundle_path)


def classifier(loaded: Bundle, file: str = "tflite-int8") -> Classifier:
    return Classifier(loaded, open_engine(loaded, file, threads=1), top_k=3)


@pytest.mark.parametrize("file", tiny_bundle.FILES)
def test_the_answers_are_those_of_frames_that_are_not_prepared(loaded: Bundle, file: str) -> None:
    classify = classifier(loaded, file)
    expected = [classify(Frame(0, frame, 0.0, 0.0, 0.0)).top_k for frame in FRAMES]
    with CaptureSource(FakeCamera(FRAMES, traits=FILE), ahead=classify.ahead()) as source:
        found = list(run(classify, source))
    assert all(frame.prepared is not None for frame, _ in found)
    assert [result.top_k for _, result in found] == expected


def test_preparing_counts_as_preprocessing_and_not_as_capture(loaded: Bundle) -> None:
    class Slow(Ahead):
        def __call__(self, frame_bgr: np.ndarray):  # type: ignore[no-untyped-def]
            prepared = super().__call__(frame_bgr)
            assert prepared is not None
            threading.Event().wait(0.03)
            return prepared._replace(took_ms=30.0)

    classify = classifier(loaded)
    ahead = Slow(loaded.manifest.input, classify.engine.model)
    live = LiveSource(lambda: FakeCamera(FRAMES[:1], then="stall", interruptible=True), ahead=ahead)
    clip = CaptureSource(FakeCamera(FRAMES[:1], traits=FILE), ahead=ahead)
    for source in (live, clip):
        with source:
            ((_, result),) = run(classify, source, options=LoopOptions(frames=1))
        stages = result.stages_ms
        assert 0 <= stages["capture"] < 25
        assert stages["preprocess"] >= 30
        assert stages["total"] == pytest.approx(sum(stages[stage] for stage in ("capture", "preprocess", "invoke", "postprocess")))


def test_what_was_prepared_for_another_file_is_not_used(loaded: Bundle) -> None:
    float_file, classify = classifier(loaded, "tflite-fp32"), classifier(loaded)
    with CaptureSource(FakeCamera(FRAMES, traits=FILE), ahead=float_file.ahead()) as source:
        found = [result.top_k for _, result in run(classify, source)]
    assert found == [classify(Frame(0, frame, 0.0, 0.0, 0.0)).top_k for frame in FRAMES]


def test_a_frame_that_is_kept_for_longer_is_prepared_again(loaded: Bundle) -> None:
    classify = classifier(loaded)
    with CaptureSource(FakeCamera(FRAMES, traits=FILE), ahead=classify.ahead()) as source:
        kept = [frame for frame, _ in run(classify, source)]
    expected = [classify(Frame(0, frame, 0.0, 0.0, 0.0)).top_k for frame in FRAMES]
    assert any(frame.prepared is not None and not frame.prepared.fits(classify.engine.model) for frame in kept)
    assert [classify(frame).top_k for frame in kept] == expected


@pytest.mark.parametrize("wrong", [np.zeros((3, 3), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_what_is_no_frame_is_refused_by_the_loop(loaded: Bundle, wrong: np.ndarray) -> None:
    classify = classifier(loaded)
    with CaptureSource(FakeCamera([FRAMES[0], wrong], traits=FILE), ahead=classify.ahead()) as source:
        turns = run(classify, source)
        next(turns)
        with pytest.raises(DataError, match="a frame must be"):
            next(turns)


class Counting(Ahead):
    """Tells how many places there are."""

    places = 0

    def _one(self):  # type: ignore[no-untyped-def]
        self.places += not self._free
        return super()._one()


def counting(loaded: Bundle) -> Counting:
    return Counting(loaded.manifest.input, open_engine(loaded, "tflite-int8").model)


def one_after_the_other(source: SlotSource | Turns, count: int) -> list[np.ndarray]:
    """Return what frames are prepared to; each is looked at again after a while, when the next ones have long been prepared."""
    found = []
    for _ in range(count):
        frame = source.read(LONG_S)
        assert frame is not None
        assert frame.prepared is not None
        tensor = frame.prepared.place.tensor
        before = tensor.copy()
        threading.Event().wait(0.02)
        np.testing.assert_array_equal(tensor, before)
        found.append(before)
    return found


def test_a_file_has_three_frames_under_way(loaded: Bundle) -> None:
    ahead = counting(loaded)
    with CaptureSource(FakeCamera(FRAMES, traits=FILE), ahead=ahead) as source:
        found = one_after_the_other(source, len(FRAMES))
    assert ahead.places <= 3
    alone = Ahead(loaded.manifest.input, open_engine(loaded, "tflite-int8").model)
    for frame, tensor in zip(FRAMES, found, strict=True):
        prepared = alone(frame)
        assert prepared is not None
        np.testing.assert_array_equal(prepared.place.tensor, tensor)


def test_a_slow_reader_of_a_fast_camera_keeps_its_frame_and_memory_is_used_again(loaded: Bundle) -> None:
    ahead = counting(loaded)
    frames = FRAMES * 100
    with LiveSource(lambda: FakeCamera(frames, interval_s=0.001, then="stall", interruptible=True), ahead=ahead) as source:
        one_after_the_other(source, 6)
        assert source.dropped > 6
    assert ahead.places <= 3


def test_sources_share_what_prepares(loaded: Bundle) -> None:
    ahead, changed = counting(loaded), threading.Condition()
    cameras = [FakeCamera(FRAMES * 50, interval_s=0.002, then="stall", interruptible=True) for _ in range(2)]
    with Turns([LiveSource(lambda c=camera: c, changed=changed, ahead=ahead) for camera in cameras], changed) as turns:  # type: ignore[misc]
        one_after_the_other(turns, 8)
    assert ahead.places <= 6


def test_a_prepared_frame_takes_no_memory(loaded: Bundle) -> None:
    classify = classifier(loaded)
    ahead = classify.ahead()

    def turn() -> None:
        prepared = ahead(FRAMES[0])
        assert prepared is not None
        classify(Frame(0, FRAMES[0], 0.0, 0.0, 0.0, 0, prepared))
        ahead.give_back(prepared)

    assert traced_peak(turn) < 4096
    assert traced_growth(turn, times=200) < 4 * 200 + 4096


def test_a_file_that_ends_early_leaves_nothing_behind(loaded: Bundle) -> None:
    engine = FakeEngine(loaded.model("tflite-int8"))
    classify = Classifier(loaded, engine)
    with CaptureSource(FakeCamera(FRAMES, traits=FILE), ahead=classify.ahead()) as source:
        next(run(classify, source))
    assert engine.invoked == 1
    assert (source.dropped, source.stuck) == (0, False)
