"""Several sources in turn: fair to slow ones, none holds the others, and errors of one end only that one."""

from __future__ import annotations

import threading
import time
from collections import Counter

import numpy as np
import pytest
from fakes import FakeCamera

from edgedistill.errors import SourceError
from edgedistill.runtime.ending import CaptureSource
from edgedistill.runtime.frames import Frame, Source, Traits
from edgedistill.runtime.live import LiveSource
from edgedistill.runtime.turns import Turns

GREY = np.full((4, 6, 3), 128, np.uint8)
CLIP, CAM = Traits("clip"), Traits("cam", live=True, ends=False)


def clip(count: int, index: int, changed: threading.Condition, *, interval_s: float = 0.0) -> CaptureSource:
    return CaptureSource(FakeCamera([GREY] * count, interval_s=interval_s, traits=CLIP), changed=changed, index=index)


def live(interval_s: float, index: int, changed: threading.Condition) -> LiveSource:
    camera = FakeCamera([GREY] * 5000, interval_s=interval_s, then="stall", traits=CAM, interruptible=True)
    return LiveSource(lambda: camera, changed=changed, index=index)


def read_all(turns: Turns) -> list[Frame]:
    found = []
    while not turns.ended:
        frame = turns.read(5.0)
        if frame is not None:
            found.append(frame)
    return found


@pytest.mark.parametrize("counts", [[5], [5, 5], [1, 7, 3], [2, 0, 4]])
def test_every_frame_of_every_file_comes_once_and_in_order(counts: list[int]) -> None:
    changed = threading.Condition()
    sources: list[Source] = [clip(count, place, changed) for place, count in enumerate(counts)]
    with Turns(sources, changed) as turns:
        frames = read_all(turns)
        assert turns.read(0.0) is None
    for place, count in enumerate(counts):
        assert [frame.id for frame in frames if frame.source == place] == list(range(count))


def test_a_fast_source_does_not_starve_a_slow_one() -> None:
    changed = threading.Condition()
    with Turns([live(0.001, 0, changed), live(0.03, 1, changed)], changed) as turns:
        served: Counter[int] = Counter()
        until_s = time.monotonic() + 1.0
        while time.monotonic() < until_s:
            frame = turns.read(1.0)
            assert frame is not None
            served[frame.source] += 1
            time.sleep(0.02)
        captured = turns.sources[1].counts.captured
    assert served[1] >= 0.5 * captured
    assert served[0] > 0


def test_two_equally_fast_ones_take_turns() -> None:
    changed = threading.Condition()
    with Turns([clip(20, 0, changed), clip(20, 1, changed)], changed) as turns:
        order = [frame.source for frame in read_all(turns)]
    assert abs(order[:20].count(0) - 10) <= 2


def test_one_that_is_away_does_not_hold_the_others() -> None:
    changed = threading.Condition()

    def away() -> FakeCamera:
        raise SourceError("there is no camera")

    with Turns([LiveSource(away, changed=changed), live(0.01, 1, changed)], changed) as turns:
        frames = [turns.read(5.0) for _ in range(10)]
    assert {frame.source for frame in frames if frame is not None} == {1}
    assert None not in frames


def test_a_file_that_fails_ends_alone(caplog: pytest.LogCaptureFixture) -> None:
    changed = threading.Condition()
    broken = CaptureSource(FakeCamera([], traits=Traits("broken")), changed=changed)
    with Turns([broken, clip(4, 1, changed)], changed) as turns:
        assert [frame.source for frame in read_all(turns)] == [1] * 4
    assert "broken has no frame" in caplog.text


def test_the_only_file_that_fails_is_an_error() -> None:
    changed = threading.Condition()
    broken = CaptureSource(FakeCamera([], traits=Traits("broken")), changed=changed)
    with Turns([broken], changed) as turns, pytest.raises(SourceError, match="broken has no frame"):
        read_all(turns)


def test_waiting_ends_in_time() -> None:
    changed = threading.Condition()
    camera = FakeCamera([], then="stall", traits=CAM, interruptible=True)
    with Turns([LiveSource(lambda: camera, changed=changed)], changed) as turns:
        began_s = time.monotonic()
        assert turns.read(0.05) is None
        assert 0.04 <= time.monotonic() - began_s < 2
        assert not turns.ended


def test_blocked_sources_are_closed_at_the_same_time() -> None:
    changed = threading.Condition()
    cameras = [FakeCamera([GREY], then="stall", traits=CAM) for _ in range(4)]
    with Turns([LiveSource(lambda camera=camera: camera, changed=changed) for camera in cameras], changed) as turns:  # type: ignore[misc]
        turns.read(1.0)
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 2
    for camera in cameras:
        camera.unblock.set()


def test_names_and_drops_are_those_of_all() -> None:
    changed = threading.Condition()
    with Turns([clip(1, 0, changed), clip(1, 1, changed)], changed) as turns:
        assert (turns.name, turns.dropped) == ("clip, clip", 0)
