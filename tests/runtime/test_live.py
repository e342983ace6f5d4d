"""Live sources: the newest frame wins, outages of every kind are survived, and nothing that blocks is waited for."""

from __future__ import annotations

import gc
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from fakes import FakeCamera

from edgedistill.errors import SourceError
from edgedistill.runtime import live, reader
from edgedistill.runtime.frames import CAPTURE_THREAD, NEWER, OUTAGE, UNDECODABLE, Capture, Frame, Traits
from edgedistill.runtime.live import LiveSource
from edgedistill.runtime.pace import Timing

FAST = Timing(stall_s=0.15, open_s=0.3, first_retry_s=0.01, eager_s=0.02, longest_retry_s=0.04, healthy_s=60)
GREY = np.full((4, 6, 3), 128, np.uint8)
LONG_S = 10.0
CAM = Traits("cam", live=True, ends=False)


def until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end_s, "it did not come about"
        time.sleep(0.005)


def opening_of(captures: Iterator[Capture | Exception]) -> Callable[[], Capture]:
    def opening() -> Capture:
        found = next(captures)
        if isinstance(found, Exception):
            raise found
        return found

    return opening


def camera(count: int, *, then: str = "die", interval_s: float = 0.002, traits: Traits = CAM) -> FakeCamera:
    return FakeCamera([GREY] * count, then=then, interval_s=interval_s, traits=traits, interruptible=True)


def read(source: LiveSource, count: int) -> list[Frame]:
    found: list[Frame] = []
    end_s = time.monotonic() + LONG_S
    while len(found) < count:
        assert time.monotonic() < end_s, f"only {len(found)} frames came"
        frame = source.read(0.05)
        if frame is not None:
            found.append(frame)
    return found


def test_the_newest_frame_wins_and_drops_are_counted_with_their_cause() -> None:
    with LiveSource(opening_of(iter([camera(30, then="stall")])), timing=FAST) as source:
        first = read(source, 1)[0]
        until(lambda: source.counts.captured == 30)
        newest = source.read(LONG_S)
        assert newest is not None
        assert newest.id == 29
        assert newest.id - first.id - 1 == source.counts.dropped[NEWER]


def test_a_camera_that_dies_again_and_again_goes_on_with_its_numbers() -> None:
    with LiveSource(opening_of(camera(3) for _ in itertools.count()), timing=FAST) as source:
        frames = read(source, 12)
        status = source.status()
    numbers = [frame.id for frame in frames]
    assert numbers == sorted(set(numbers))
    assert status.reconnects >= 3
    assert status.stalls == 0


def test_one_that_stalls_is_interrupted_and_opened_again() -> None:
    first = camera(3, then="stall")
    with LiveSource(opening_of(iter([first, camera(99, then="stall")])), timing=FAST) as source:
        frames = read(source, 5)
        assert source.status().stalls >= 1
    assert first.interrupted.is_set()
    assert first.released.wait(LONG_S)
    assert [frame.id for frame in frames] == sorted(frame.id for frame in frames)


def test_a_stall_right_after_an_opening_does_not_wait_for_the_time_that_openings_have() -> None:
    timing = Timing(stall_s=0.1, open_s=2 * LONG_S, first_retry_s=0.01, jitter=0)
    with LiveSource(opening_of(iter([camera(2, then="stall"), camera(99, then="stall")])), timing=timing) as source:
        frames = read(source, 1)
        assert read(source, 3)[-1].id > frames[0].id
        assert source.counts.stalls >= 1


def test_what_a_given_up_reader_still_delivers_is_not_taken() -> None:
    old = FakeCamera([GREY, np.full((4, 6, 3), 7, np.uint8)], then="die", traits=CAM)
    gate = threading.Event()
    grab = old.grab
    calls = itertools.count()

    def late() -> bool:
        if next(calls) == 1:
            gate.wait()
        return grab()

    old.grab = late  # type: ignore[method-assign]
    with LiveSource(opening_of(iter([old, camera(200, then="stall")])), timing=FAST) as source:
        read(source, 3)
        gate.set()
        assert old.released.wait(LONG_S)
        assert all(frame.frame_bgr[0, 0, 0] == 128 for frame in read(source, 3))


@pytest.mark.parametrize("failure", [SourceError("there is no camera"), RuntimeError("rtsp://user:hunter2@host")])
def test_an_opening_that_fails_is_tried_again_for_ever(failure: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with LiveSource(opening_of(iter([failure] * 5 + [camera(9, then="stall")])), timing=FAST) as source:
        assert len(read(source, 1)) == 1
        assert source.counts.reconnects == 0, "it was never open before"
    assert "hunter2" not in caplog.text
    assert len([record for record in caplog.records if "trying again" in record.getMessage()]) == 1


def test_an_outage_is_told_with_its_end_however_short_the_time_before_it(caplog: pytest.LogCaptureFixture) -> None:
    """A single frame gives no rate, which says how many were lost, but it is back all the same."""
    with LiveSource(opening_of(iter([camera(1), camera(9, then="stall")])), timing=FAST) as source:
        read(source, 2)
    assert [record.getMessage().split(" after ")[0] for record in caplog.records] == [
        "cam: it stopped delivering; trying again until it is back",
        "cam: back",
    ]


def test_one_that_was_waited_for_is_told_when_it_is_there(caplog: pytest.LogCaptureFixture) -> None:
    with LiveSource(opening_of(iter([SourceError("there is no camera"), camera(9, then="stall")])), timing=FAST, name="attic") as source:
        read(source, 1)
    assert [record.getMessage().split(" after ")[0] for record in caplog.records] == [
        "attic: there is no camera; trying again until it is back",
        "cam: there",
    ]


def test_a_system_that_grants_no_thread_is_asked_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    refusals = iter([True, True])

    class Granted(threading.Thread):
        def start(self) -> None:
            if self.name.startswith(CAPTURE_THREAD) and next(refusals, False):
                raise RuntimeError("can't start new thread")
            super().start()

    monkeypatch.setattr(reader.threading, "Thread", Granted)
    first = camera(1)
    with LiveSource(opening_of(iter([camera(9, then="stall")])), first=first, timing=FAST) as source:
        read(source, 1)
    assert first.released.is_set()
    assert not source.stuck
    assert "cannot be read now: can't start new thread" in caplog.text


def test_a_capture_that_is_over_is_not_kept() -> None:
    first = camera(1)
    kept = weakref.ref(first)
    source = LiveSource(opening_of(iter([camera(9, then="stall")])), first=first, timing=FAST)
    del first
    with source:
        read(source, 2)
        gc.collect()
        until(lambda: kept() is None)


def test_an_opening_that_hangs_is_given_up() -> None:
    free = threading.Event()
    hanging = camera(1)

    def first() -> Capture:
        free.wait()
        return hanging

    openings = iter([first, lambda: camera(50, then="stall")])
    with LiveSource(lambda: next(openings)(), timing=FAST) as source:
        assert read(source, 1)[0].id == 0
        free.set()
        assert hanging.released.wait(LONG_S)
    assert not source.stuck


def test_blocked_readers_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LOOK_S", 0.02)
    opened: list[FakeCamera] = []

    def opening() -> Capture:
        opened.append(FakeCamera([GREY], then="stall", traits=CAM))
        return opened[-1]

    with LiveSource(opening, timing=FAST) as source:
        source.read(0.0)
        until(lambda: source.stuck and len(opened) == live.MOST_STUCK)
        time.sleep(0.3)
        assert len(opened) == live.MOST_STUCK
        opened[0].unblock.set()
        until(lambda: len(opened) == live.MOST_STUCK + 1)
        for one in opened:
            one.unblock.set()


def test_closing_does_not_wait_for_a_blocked_capture() -> None:
    blocked = FakeCamera([GREY], then="stall", traits=CAM)
    source = LiveSource(opening_of(iter([blocked])))
    read(source, 1)
    began_s = time.monotonic()
    source.close()
    assert time.monotonic() - began_s < 2
    assert source.stuck
    assert source.ended
    blocked.unblock.set()
    assert blocked.released.wait(LONG_S)


@pytest.mark.parametrize("opened", [False, True])
def test_closing_before_the_first_read_releases_what_is_open(opened: bool) -> None:
    first = camera(3) if opened else None
    source = LiveSource(opening_of(iter([])), first=first)
    source.close()
    assert source.ended
    assert first is None or first.released.is_set()
    assert source.read(0.0) is None


def test_undecodable_frames_are_counted_and_are_no_stall() -> None:
    faulty = FakeCamera([None] * 4 + [GREY] * 3, then="stall", interval_s=0.01, traits=CAM, interruptible=True)
    with LiveSource(opening_of(iter([faulty, camera(1, then="stall")])), timing=Timing(stall_s=5)) as source:
        assert read(source, 1)[0].id >= 4
        assert (source.skipped, source.counts.stalls) == (4, 0)
        assert source.counts.dropped[UNDECODABLE] == 4


def test_one_of_which_nothing_can_be_decoded_any_more_is_opened_again() -> None:
    broken = FakeCamera([GREY] + [None] * 10_000, then="stall", interval_s=0.002, traits=CAM, interruptible=True)
    timing = Timing(stall_s=0.3, open_s=0.3, first_retry_s=0.01)
    with LiveSource(opening_of(iter([broken, camera(99, then="stall")])), timing=timing) as source:
        frames = read(source, 3)
        status = source.status()
    assert frames[1].id > 20
    assert (status.stalls, status.reconnects) == (1, 1)
    assert status.dropped[UNDECODABLE] > 20


def test_the_size_may_change_at_any_time() -> None:
    sizes = [(4, 6), (4, 6), (30, 40), (9, 3)]
    changing = FakeCamera(
        [np.zeros((*size, 3), np.uint8) for size in sizes],
        then="stall",
        interval_s=0.03,
        traits=CAM,
        interruptible=True,
    )
    with LiveSource(opening_of(iter([changing, camera(1, then="stall")]))) as source:
        assert [frame.frame_bgr.shape[:2] for frame in read(source, 4)] == sizes


def test_frames_of_an_outage_are_estimated_by_the_rate() -> None:
    captures = iter([camera(20, interval_s=0.01), camera(50, interval_s=0.01, then="stall")])
    timing = Timing(stall_s=0.15, first_retry_s=0.3, jitter=0)
    with LiveSource(opening_of(captures), timing=timing) as source:
        read(source, 2)
        until(lambda: source.counts.captured > 20)
        assert 5 <= source.counts.dropped[OUTAGE] <= 60


def test_two_hundred_reconnects_leave_no_thread_behind() -> None:
    timing = Timing(stall_s=1, first_retry_s=0.0, eager_s=60, jitter=0)
    with LiveSource(opening_of(camera(1, interval_s=0) for _ in itertools.count()), timing=timing) as source:
        source.read(0.0)
        until(lambda: source.counts.reconnects >= 200)
        until(lambda: sum(thread.name == f"{CAPTURE_THREAD}cam" for thread in threading.enumerate()) <= 1)
        assert len(source._troubles["reconnect"]) <= live.KEEP_TROUBLES
    assert not any(thread.name in (f"{CAPTURE_THREAD}cam", "watch camera") for thread in threading.enumerate())


def test_the_pause_doubles_to_its_longest() -> None:
    opened_s: list[float] = []

    def opening() -> Capture:
        opened_s.append(time.monotonic())
        raise SourceError("there is no camera")

    timing = Timing(first_retry_s=0.02, eager_s=0.0, longest_retry_s=0.16, jitter=0)
    with LiveSource(opening, timing=timing) as source:
        source.read(0.0)
        until(lambda: len(opened_s) >= 7)
    pauses = np.diff(opened_s)
    assert (pauses[:6] >= [0.02, 0.04, 0.08, 0.16, 0.16, 0.16]).all()


def test_the_state_tells_an_outage_and_its_end() -> None:
    gate = threading.Event()

    def captures() -> Iterator[Capture | Exception]:
        yield camera(3)
        while not gate.is_set():
            yield SourceError("there is no camera")
        while True:
            yield camera(500, then="stall")

    with LiveSource(opening_of(captures()), timing=FAST, name="attic", index=2) as source:
        assert (source.status().state, source.status().name, source.status().source) == ("opening", "attic", 2)
        read(source, 1)
        until(lambda: source.status().state == "reconnecting")
        assert source.status().quality in ("fair", "poor", "unusable")
        gate.set()
        until(lambda: source.status().state == "running")
        assert source.status().name == "cam"
    assert source.status().state == "ended"


@pytest.mark.parametrize(("fps", "patience_s"), [(30.0, 2.0), (None, 2.0), (0.02, 150.0)])
def test_a_slow_source_may_be_silent_for_longer(fps: float | None, patience_s: float) -> None:
    with LiveSource(opening_of(iter([])), first=camera(1, then="stall", traits=CAM._replace(fps=fps))) as source:
        assert source.status().patience_s == pytest.approx(patience_s)


def test_one_outage_is_one_reconnect_however_many_attempts_it_took() -> None:
    captures = itertools.chain([camera(3)], [SourceError("there is no camera")] * 12, [camera(500, then="stall")])
    with LiveSource(opening_of(captures), timing=FAST) as source:
        read(source, 3)
        until(lambda: source.counts.captured > 5)
        status = source.status()
    assert (status.reconnects, status.quality) == (1, "fair")


@pytest.mark.parametrize(
    ("frames", "fps", "words"),
    [
        ([GREY], None, ("excellent",)),
        ([None], None, ("unusable",)),
        ([GREY, None], None, ("poor",)),
        ([GREY, GREY, None, GREY], 50.0, ("fair", "poor")),
        ([None], 0.5, ("poor",)),
    ],
)
def test_what_cannot_be_decoded_is_missing_in_the_rate(frames: list[np.ndarray | None], fps: float | None, words: tuple[str, ...]) -> None:
    faulty = FakeCamera(frames * 40, then="stall", interval_s=0.02, traits=CAM._replace(fps=fps), interruptible=True)
    with LiveSource(opening_of(iter([faulty])), timing=Timing(stall_s=5)) as source:
        source.read(0.0)
        until(lambda: source.counts.captured >= 40)
        assert source.status().quality in words


def test_a_step_of_the_wall_clock_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    times = itertools.cycle([2e9, 1.0])
    monkeypatch.setattr(live.time, "time", lambda: next(times))
    with LiveSource(opening_of(iter([camera(60, then="stall")]))) as source:
        frames = read(source, 10)
        assert source.counts.stalls == source.counts.reconnects == 0
    assert [frame.captured_s for frame in frames] == sorted(frame.captured_s for frame in frames)


def test_a_slow_reader_gets_fresh_frames() -> None:
    interval_s, inference_s = 0.02, 0.1
    ages_s: list[float] = []
    with LiveSource(opening_of(iter([camera(500, interval_s=interval_s, then="stall")]))) as source:
        for _ in range(12):
            frame = source.read(LONG_S)
            assert frame is not None
            time.sleep(inference_s)
            ages_s.append(time.monotonic() - frame.captured_s)
    assert sorted(ages_s)[-2] <= interval_s + inference_s + 0.05
    assert ages_s[-1] <= ages_s[0] + interval_s + 0.1, "the age grows"
