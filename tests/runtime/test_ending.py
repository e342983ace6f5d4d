"""Sources that end: which frames reach the reader, what is counted, how it ends, and that nothing blocks the reader."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from fakes import FakeCamera
from reading import LONG_S, read_all

from edgedistill.errors import SourceError
from edgedistill.runtime import ending
from edgedistill.runtime.ending import CaptureSource
from edgedistill.runtime.frames import Traits

CAMERA = Traits("cam", live=True, ends=False)


def numbered(count: int) -> list[np.ndarray]:
    return [np.full((4, 4, 3), number, np.uint8) for number in range(count)]


def test_a_file_gives_every_frame_in_order_to_a_slow_reader() -> None:
    with CaptureSource(FakeCamera(numbered(7), traits=Traits("clip"))) as source:
        found = []
        while (frame := source.read(LONG_S)) is not None:
            time.sleep(0.005)
            found.append(frame)
    assert [frame.id for frame in found] == list(range(7))
    assert [int(frame.frame_bgr[0, 0, 0]) for frame in found] == list(range(7))
    assert (source.dropped, source.skipped, source.live, source.stuck) == (0, 0, False, False)


def test_a_live_source_gives_the_newest_frame_and_counts_the_others() -> None:
    taken = threading.Event()

    def frames() -> Iterator[np.ndarray]:
        first, *others = numbered(50)
        yield first
        taken.wait(LONG_S)
        yield from others

    camera = FakeCamera(frames(), then="stall")
    with CaptureSource(camera) as source:
        first = source.read(LONG_S)
        taken.set()
        wait_until(lambda: source.dropped > 0 and source._slot is not None and source._slot.id == 49)
        second = source.read(LONG_S)
        assert first is not None
        assert second is not None
        assert second.id == int(second.frame_bgr[0, 0, 0]) == 49
        assert source.dropped == 48
        camera.unblock.set()


def wait_until(condition: object) -> None:
    end = time.monotonic() + LONG_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "this never came true"
        time.sleep(0.001)


def test_nothing_is_captured_before_the_first_read() -> None:
    camera = FakeCamera(numbered(3), traits=Traits("clip"))
    source = CaptureSource(camera)
    assert source._slot is None
    assert not camera.released.is_set()
    assert source.read(LONG_S) is not None
    source.close()
    assert camera.released.is_set()


def test_closing_without_reading_releases_the_device() -> None:
    camera = FakeCamera(numbered(3))
    CaptureSource(camera).close()
    assert camera.released.is_set()


def test_no_frame_in_time_is_none_and_not_the_end() -> None:
    camera = FakeCamera([], then="stall")
    with CaptureSource(camera) as source:
        assert source.read(0.01) is None
        assert not source.ended
        camera.unblock.set()


@pytest.mark.parametrize("count", [0, 3])
def test_a_camera_that_dies_is_an_error_after_its_last_frame(count: int) -> None:
    with (
        CaptureSource(FakeCamera(numbered(count), interval_s=0.01, traits=CAMERA)) as source,
        pytest.raises(SourceError, match=rf"cam stopped.* {count}"),
    ):
        read_all(source)


def test_what_a_driver_raises_reaches_the_reader() -> None:
    camera = FakeCamera([*numbered(1), cv2.error("the bus fell off")], traits=Traits("clip"))
    with CaptureSource(camera) as source:
        assert source.read(LONG_S) is not None
        with pytest.raises(SourceError, match="clip failed while capturing: the bus fell off"):
            source.read(LONG_S)
    assert camera.released.is_set()


def test_frames_that_cannot_be_decoded_are_skipped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    first, second = numbered(2)
    with CaptureSource(FakeCamera([first, None, second, None], traits=Traits("clip", frames=4))) as source:
        assert [frame.id for frame in read_all(source)] == [0, 2]
    assert source.skipped == 2
    assert "clip: 2 of 4 frames could not be read" in caplog.text


@pytest.mark.parametrize(("expected", "skipped"), [(None, 0), (3, 0), (2, 0), (10, 7)])
def test_frames_that_a_file_lacks_are_counted(expected: int | None, skipped: int, caplog: pytest.LogCaptureFixture) -> None:
    with CaptureSource(FakeCamera(numbered(3), traits=Traits("clip", frames=expected))) as source:
        assert len(read_all(source)) == 3
    assert source.skipped == skipped
    assert ("cut short or damaged" in caplog.text) == bool(skipped)


@pytest.mark.parametrize("frames", [[], [None, None]])
def test_a_file_without_a_single_frame_is_an_error(frames: list[None]) -> None:
    with (
        CaptureSource(FakeCamera(list(frames), traits=Traits("clip"))) as source,
        pytest.raises(SourceError, match="no frame that can be decoded"),
    ):
        source.read(LONG_S)


def test_it_has_not_ended_before_the_last_frame_is_read() -> None:
    camera = FakeCamera(numbered(2), traits=Traits("clip"))
    with CaptureSource(camera) as source:
        assert source.read(LONG_S) is not None
        assert camera.released.wait(LONG_S)  # all is captured, the second frame waits for its reader
        assert not source.ended
        assert source.read(LONG_S) is not None
        assert source.read(LONG_S) is None
        assert source.ended


def test_closing_early_is_no_error_and_does_not_count_as_damage() -> None:
    with CaptureSource(FakeCamera(numbered(9), traits=Traits("clip", frames=9))) as source:
        assert source.read(LONG_S) is not None
    assert source.skipped == 0
    assert not source.stuck


def test_a_blocked_capture_does_not_hold_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "CLOSE_WAIT_S", 0.05)
    camera = FakeCamera(numbered(1), then="stall")
    source = CaptureSource(camera)
    assert source.read(LONG_S) is not None
    source.close()
    assert source.stuck
    assert [thread.daemon for thread in threading.enumerate() if thread.name == "capture cam"] == [True]
    camera.unblock.set()
    assert camera.released.wait(LONG_S)


@pytest.mark.parametrize(("fps", "patience_s"), [(30.0, 2.0), (0.02, 150.0), (None, None)])
def test_how_long_it_may_be_silent_is_known_where_the_rate_is(fps: float | None, patience_s: float | None) -> None:
    with CaptureSource(FakeCamera(numbered(1), traits=Traits("clip", fps=fps))) as source:
        assert source.status().patience_s == (None if patience_s is None else pytest.approx(patience_s))


def test_the_size_may_change_from_frame_to_frame() -> None:
    sizes = [(4, 4, 3), (8, 2, 3), (4, 4, 3)]
    with CaptureSource(FakeCamera([np.zeros(size, np.uint8) for size in sizes], traits=Traits("clip"))) as source:
        assert [frame.frame_bgr.shape for frame in read_all(source)] == sizes


@pytest.mark.parametrize("traits", [Traits("clip"), Traits("cam", live=True)])
def test_times_of_a_frame(traits: Traits) -> None:
    before_s, before_time_s = time.monotonic(), time.time()
    with CaptureSource(FakeCamera(numbered(1), interval_s=0.05, traits=traits)) as source:
        frame = source.read(LONG_S)
    assert frame is not None
    assert before_s <= frame.captured_s <= time.monotonic()
    assert before_time_s <= frame.time_s <= time.time()
    # waiting for the camera is not part of its cost, reading a file is
    waited_s = frame.captured_s - before_s
    assert (waited_s >= 0.05) == traits.live
    assert (frame.capture_ms >= 50) >= (not traits.live)


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals cannot be blocked on this system")
def test_signals_do_not_reach_the_capturing_thread() -> None:
    class Asking(FakeCamera):
        def grab(self) -> bool:
            self.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, set())
            return super().grab()

    camera = Asking(numbered(1), traits=Traits("clip"))
    with CaptureSource(camera) as source:
        assert source.read(LONG_S) is not None
    assert {signal.SIGINT, signal.SIGTERM} <= camera.blocked
    assert not {signal.SIGINT, signal.SIGTERM} & signal.pthread_sigmask(signal.SIG_BLOCK, set())
