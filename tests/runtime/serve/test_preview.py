"""Pictures: encoded once for all, only while somebody looks, at a low priority, and never kept."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable

import cv2
import numpy as np
import pytest
from watched import add, frame_of, result_of, watching

from edgedistill.runtime.monitor import Monitor, Seen
from edgedistill.runtime.serve import ServeOptions
from edgedistill.runtime.serve import preview as preview_module
from edgedistill.runtime.serve.preview import Preview, encode, yield_to_others

FAST = ServeOptions(preview_fps=60)


def with_preview(monitor: Monitor, check: Callable[[Preview], Awaitable[None]], options: ServeOptions = FAST) -> None:
    """Run a check over the previews of source 0, and see that its thread ends."""

    async def run() -> None:
        preview = Preview(monitor, 0, options)
        try:
            await check(preview)
        finally:
            preview.close()
        await asyncio.to_thread(preview._thread.join, 10)
        assert not preview._thread.is_alive()

    asyncio.run(run())


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the results that were encoded."""
    numbers: list[int] = []
    original = preview_module.encode

    def counting(seen: Seen, width: int) -> bytes:
        numbers.append(seen.number)
        return original(seen, width)

    monkeypatch.setattr(preview_module, "encode", counting)
    return numbers


@pytest.mark.parametrize(
    ("size_wh", "width", "expected_wh"),
    [
        ((1280, 720), 640, (640, 360)),
        ((320, 240), 640, (320, 240)),
        ((640, 480), 640, (640, 480)),
        ((4000, 2), 100, (100, 1)),
        ((90, 400), 64, (64, 284)),
    ],
)
def test_pictures_are_brought_down_never_up(size_wh: tuple[int, int], width: int, expected_wh: tuple[int, int]) -> None:
    frame = frame_of(1, size_wh=size_wh)
    before = frame.frame_bgr.copy()
    jpeg = encode(Seen(1, frame, result_of(frame)), width)
    image_bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image_bgr.shape[1::-1] == expected_wh
    assert np.array_equal(frame.frame_bgr, before)


def test_a_picture_has_the_answer_written_on_it() -> None:
    frame = frame_of(1)
    named = encode(Seen(1, frame, result_of(frame, label="red apple")), 640)
    other = encode(Seen(1, frame, result_of(frame, label="tea")), 640)
    assert named != other


def test_many_who_look_cost_one_encoding(encoded: list[int]) -> None:
    monitor = watching()
    add(monitor, 1)

    async def check(preview: Preview) -> None:
        pictures = await asyncio.gather(*(preview.newer(0, 10) for _ in range(50)))
        assert {picture.number for picture in pictures if picture} == {1}
        assert encoded == [1]
        assert await preview.newer(1, 0.05) is None
        add(monitor, 2)
        picture = await preview.newer(1, 10)
        assert picture is not None
        assert picture.number == 2
        assert encoded == [1, 2]

    with_preview(monitor, check)


def test_nothing_is_encoded_while_nobody_looks_and_nothing_is_kept(encoded: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview_module, "WANTED_S", 0.05)
    monkeypatch.setattr(preview_module, "WAIT_S", 0.05)
    monitor = watching()
    add(monitor, 1)

    async def check(preview: Preview) -> None:
        assert await preview.newer(0, 10) is not None
        while preview._newest is not None:
            await asyncio.sleep(0.01)
        for number in range(2, 6):
            add(monitor, number)
            await asyncio.sleep(0.02)
        assert set(encoded) == {1}
        picture = await preview.newer(0, 10)
        assert picture is not None
        assert picture.number == 5
        assert set(encoded) == {1, 5}

    with_preview(monitor, check)


def test_after_a_while_the_same_frame_can_be_looked_at_again(encoded: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that is away must not make the page black for those who come late."""
    monkeypatch.setattr(preview_module, "WANTED_S", 0.02)
    monkeypatch.setattr(preview_module, "WAIT_S", 0.02)
    monitor = watching()
    add(monitor, 1)

    async def check(preview: Preview) -> None:
        for _ in range(3):
            assert await preview.newer(0, 10) is not None
            while preview._newest is not None:
                await asyncio.sleep(0.01)
        assert len(encoded) >= 3

    with_preview(monitor, check)


def test_pictures_come_no_faster_than_asked(encoded: list[int]) -> None:
    monitor = watching()

    async def check(preview: Preview) -> None:
        end_s, number, shown = time.monotonic() + 0.5, 0, 0
        while time.monotonic() < end_s:
            number += 1
            add(monitor, number)
            if await preview.newer(encoded[-1] if encoded else 0, 0.005):
                shown += 1
        assert len(encoded) <= 7

    with_preview(monitor, check, ServeOptions(preview_fps=10))


def test_a_frame_that_cannot_be_drawn_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    original = preview_module.encode

    def failing(seen: Seen, width: int) -> bytes:
        if seen.number == 1:
            raise cv2.error("odd frame")
        return original(seen, width)

    monkeypatch.setattr(preview_module, "encode", failing)
    monitor = watching()
    add(monitor, 1)

    async def check(preview: Preview) -> None:
        assert await preview.newer(0, 0.1) is None
        add(monitor, 2)
        assert await preview.newer(0, 10) is not None

    with_preview(monitor, check)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
def test_threads_that_draw_have_a_low_priority() -> None:
    found = []

    def look() -> None:
        yield_to_others()
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [max(before, preview_module.NICE)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
