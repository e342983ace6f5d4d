"""Cameras over RTSP: OpenCV's FFmpeg reads, over real sockets, from a server that misbehaves as cameras and networks do."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
import tiny_bundle
from rtp_video import H264
from rtsp_camera_server import Mode, RtspCamera

from edgedistill.errors import SourceError
from edgedistill.runtime import rtsp as rtsp_module
from edgedistill.runtime.address import Address
from edgedistill.runtime.frames import CAPTURE_THREAD, NEWER, Frame, Source
from edgedistill.runtime.pace import Timing
from edgedistill.runtime.rtsp import rtsp
from edgedistill.runtime.sources import open_source
from edgedistill.runtime.wishes import Wishes

LONG_S = 10.0
CARDS = [tiny_bundle.card(label) for label in tiny_bundle.LABELS]
GREYS = [np.full((48, 64, 3), grey, np.uint8) for grey in range(20, 240, 4)]
#: 30 frames of 160 x 96, three of them key frames; their mean goes from 30 up by 6.
CLIP = (Path(__file__).parents[1] / "data" / "greys.h264").read_bytes()
CLIP_FRAMES, FIRST_GREY, GREY_STEP = 30, 30, 6
QUICK = Timing(stall_s=0.3, first_retry_s=0.02, eager_s=1e9, jitter=0)
#: What real passwords hold, and what must be found nowhere.
SECRET = "hunter2 @/:?#%ü"


def read(source: Source, condition: Callable[[Frame], bool] = lambda frame: True) -> Frame:
    """Return the next frame for which the condition holds."""
    end_s = time.monotonic() + LONG_S
    while True:
        frame = source.read(0.05)
        if frame is not None and condition(frame):
            return frame
        assert time.monotonic() < end_s, source.status()


def until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end_s, "it did not come about"
        time.sleep(0.005)


@pytest.mark.parametrize("size_hw", [(48, 64), (480, 640), (720, 1280)])
def test_frames_have_their_size_and_colours(size_hw: tuple[int, int]) -> None:
    cards = [tiny_bundle.card(label, height=size_hw[0], width=size_hw[1]) for label in tiny_bundle.LABELS]
    with RtspCamera(cards, fps=50) as camera, open_source(camera.address) as source:
        assert (source.name, source.live, source.fps) == (camera.address, True, 50)
        for label in tiny_bundle.LABELS:
            frame = read(source, lambda frame, label=label: _is(frame, label))
            assert frame.frame_bgr.shape == (*size_hw, 3)
        assert source.status().state == "running"


def _is(frame: Frame, label: str) -> bool:
    return bool(np.abs(frame.frame_bgr.reshape(-1, 3).mean(axis=0) - tiny_bundle.COLOURS_BGR[label]).max() < 12)


def test_pictures_are_asked_for_over_tcp_and_the_first_one_is_waited_for_alone() -> None:
    with RtspCamera(GREYS, fps=10) as camera, open_source(camera.address) as source:
        assert camera.sent <= 4, "it waited for frames to guess their rate by"
        read(source)
        transports = [request.headers["transport"] for request in camera.requests if request.method == "SETUP"]
    assert transports == ["RTP/AVP/TCP;unicast;interleaved=0-1"]


def clip_number(frame: Frame) -> int:
    """Return which frame of the clip this is."""
    number = (float(frame.frame_bgr.mean()) - FIRST_GREY) / GREY_STEP
    assert abs(number - round(number)) < 0.45
    return round(number)


@pytest.mark.parametrize("first", [0, 3])
def test_h264_is_read_from_the_next_key_frame_on_and_kept_back_for_a_few_frames_only(first: int) -> None:
    with RtspCamera(H264(CLIP, first=first), fps=40) as camera, open_source(camera.address) as source:
        assert camera.sent <= 24
        read(source, lambda frame: frame.id > 12)
        for _ in range(8):
            number = clip_number(read(source))
            behind = (first + camera.sent - 1 - number) % CLIP_FRAMES
            assert behind <= rtsp_module.DECODE_THREADS + 3, "the decoder keeps more frames back"
        assert source.counts.reconnects == 0


@pytest.mark.parametrize("mode", ["corrupt", "broken"])
def test_h264_that_cannot_be_decoded_for_a_while_is_no_reason_to_connect_again(mode: Mode) -> None:
    with RtspCamera(H264(CLIP), fps=60) as camera, open_source(camera.address) as source:
        read(source)
        camera.mode, sent = mode, camera.sent
        until(lambda: camera.sent >= sent + 15)
        camera.mode, captured = "well", source.counts.captured
        read(source, lambda frame: frame.id >= captured + 30)
        clip_number(read(source))
        assert source.counts.reconnects == 0


@pytest.mark.parametrize("video", [H264(CLIP), GREYS], ids=["h264", "jpeg"])
def test_a_camera_that_is_silent_while_it_is_opened_is_opened_again(
    video: H264 | list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtsp_module, "OPEN_TIMEOUT_MS", 200)
    with RtspCamera(video, fps=60) as camera:
        camera.mode = "silent"
        with pytest.raises(SourceError, match="opens, but sends no picture"):
            open_source(camera.address)
        with open_source(camera.address, wait=True, timing=QUICK) as source:
            source.read(0.6)
            assert source.counts.captured == 0
            camera.mode = "well"
            read(source, lambda frame: frame.id > 5)
            assert source.skipped == 0


def test_h264_comes_back_after_an_outage() -> None:
    with RtspCamera(H264(CLIP), fps=60) as camera, open_source(camera.address, timing=QUICK) as source:
        last = read(source).id
        camera.outage()
        until(lambda: source.status().state == "reconnecting")
        camera.back()
        clip_number(read(source, lambda frame: frame.id > last + 10))


def test_udp_is_not_taken_where_tcp_is_refused() -> None:
    with RtspCamera(GREYS) as camera:
        camera.mode = "udp_only"
        with pytest.raises(SourceError, match="gives no video that OpenCV can read over TCP"):
            open_source(camera.address)
        assert all("TCP" in request.headers.get("transport", "TCP") for request in camera.requests)


def test_a_slow_reader_gets_the_newest_frame_and_drops_are_counted() -> None:
    with RtspCamera(GREYS, fps=100) as camera, open_source(camera.address) as source:
        for _ in range(6):
            read(source)
            time.sleep(0.1)
            frame = read(source)
            grey = GREYS[(camera.sent - 1) % len(GREYS)][0, 0, 0]
            behind = (float(grey) - frame.frame_bgr.mean()) / 4 % len(GREYS)
            assert min(behind, len(GREYS) - behind) <= 5, "it got an old frame"
        assert frame.id + 1 == source.counts.captured - (source._slot is not None)  # type: ignore[attr-defined]
        assert source.counts.dropped[NEWER] >= 30


@pytest.mark.parametrize("auth", ["basic", "digest"])
def test_passwords_are_taken_and_never_told(auth: str, caplog: pytest.LogCaptureFixture) -> None:
    with RtspCamera(GREYS, fps=50) as camera, caplog.at_level(logging.DEBUG):
        camera.auth, camera.password = auth, SECRET  # type: ignore[assignment]
        with open_source(camera.with_password(camera.address)) as source:
            read(source)
            assert source.name == source.status().name == camera.address
        with pytest.raises(SourceError, match=r"needs a user and password: rtsp://USER:PASSWORD@HOST/… \(status 401\)"):
            open_source(camera.address)
        with pytest.raises(SourceError, match="refuses the user or the password") as caught:
            open_source(camera.address.replace("://", "://user:swordfish@"))
    assert "swordfish" not in str(caught.value)
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("missing", "answers with status 404; check the path of the address"),
        ("busy", "answers with status 503"),
        ("deaf", "takes the connection and answers nothing; check the port, which mostly is 554"),
    ],
)
def test_what_is_wrong_is_told(mode: Mode, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtsp_module, "ANSWER_S", 0.3)
    with RtspCamera(GREYS) as camera:
        camera.mode = mode
        with pytest.raises(SourceError, match=message):
            open_source(camera.with_password(camera.address))


def test_a_camera_without_power_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtsp_module, "CONNECT_S", 0.2)
    with RtspCamera(GREYS) as camera, camera.unplugged(), pytest.raises(SourceError, match=r"does not answer \(it took too long\)"):
        open_source(camera.address)


def test_nobody_there_and_another_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet() -> None:
            with other.accept()[0] as line:
                line.sendall(b"SSH-2.0-x\r\n")

        threading.Thread(target=greet, daemon=True).start()
        with pytest.raises(SourceError, match="answers, but not as an RTSP camera does"):
            open_source(f"rtsp://user:hunter2@127.0.0.1:{other.getsockname()[1]}/x")
    with pytest.raises(SourceError, match=r"rtsp://127.0.0.1:9/x does not answer \(.*refused\)"):
        open_source("rtsp://user:hunter2@127.0.0.1:9/x")


@pytest.mark.parametrize("text", ["rtsp://", "rtsp:///x", "rtsp://user:hunter2@/x", "rtsp://user:hunter2@ho st/x"])
def test_what_is_no_address_is_told_before_anything_is_opened(text: str) -> None:
    with pytest.raises(SourceError, match=r"is no address of a camera; expected rtsp://HOST/PATH") as caught:
        rtsp(text, Wishes())
    assert "hunter2" not in str(caught.value)


MISBEHAVIOURS = [
    pytest.param(mode, marks=[pytest.mark.slow] if mode == "nonsense" else [])  # FFmpeg reads on until its own time limit
    for mode in get_args(Mode)
    if mode not in ("well", "udp_only")
]


@pytest.mark.parametrize("mode", MISBEHAVIOURS)
def test_it_comes_back_from_every_misbehaviour(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtsp_module, "ANSWER_S", 0.3)
    with RtspCamera(GREYS, fps=60) as camera, open_source(camera.address, timing=QUICK) as source:
        read(source)
        camera.mode = mode
        end_s = time.monotonic() + 0.6
        while time.monotonic() < end_s:
            source.read(0.05)
        camera.mode = "well"
        captured = source.counts.captured
        read(source, lambda frame: frame.id >= captured + 3)
        assert source.status().state == "running"


def test_a_silent_camera_is_a_stall_and_an_outage_is_none() -> None:
    with RtspCamera(GREYS, fps=60) as camera, open_source(camera.address, timing=QUICK) as source:
        last = read(source).id
        camera.outage()
        until(lambda: source.status().state == "reconnecting")
        assert source.counts.stalls == 0
        camera.back()
        last = read(source, lambda frame: frame.id > last).id
        camera.mode = "silent"
        until(lambda: source.counts.stalls == 1)
        until(lambda: camera.open_connections > 1)  # the old one is blocked in FFmpeg still
        camera.mode = "well"
        assert read(source, lambda frame: frame.id > last).id > last
        assert source.counts.reconnects >= 2


def test_a_broken_packet_is_no_reason_to_connect_again() -> None:
    with RtspCamera(GREYS, fps=60) as camera, open_source(camera.address) as source:
        for _ in range(3):
            last = read(source).id
            camera.mode, sent = "broken", camera.sent
            until(lambda sent=sent: camera.sent >= sent + 4)
            camera.mode = "well"
            read(source, lambda frame, last=last: frame.id > last + 2)
        assert source.counts.reconnects == 0
        assert sum(request.method == "PLAY" for request in camera.requests) == 1


def test_the_size_may_change_at_any_time() -> None:
    with RtspCamera(CARDS, fps=60) as camera, open_source(camera.address) as source:
        for size_hw in ((240, 320), (48, 64), (1080, 1920), (120, 160)):
            camera.show([tiny_bundle.card("green", height=size_hw[0], width=size_hw[1])])
            frame = read(source, lambda frame, size_hw=size_hw: frame.frame_bgr.shape[:2] == size_hw)
            assert _is(frame, "green")
        assert source.counts.reconnects == 0


def test_openings_and_outages_keep_nothing() -> None:
    timing = Timing(first_retry_s=0.0, eager_s=1e9, jitter=0)
    with RtspCamera(GREYS, fps=100) as camera, open_source(camera.address, timing=timing) as source:
        read(source)
        camera.mode = "die"
        until(lambda: source.read(0.01) is None and camera.connections > 12)
        descriptors = len(os.listdir("/proc/self/fd"))
        until(lambda: source.read(0.01) is None and camera.connections > 40)
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 4  # two connections that are just opening, both ends
    assert not any(thread.name.startswith((CAPTURE_THREAD, "watch ")) for thread in threading.enumerate())


def test_openings_at_the_same_time_stay_quiet() -> None:
    def opening() -> None:
        with pytest.raises(SourceError):
            rtsp(f"rtsp://user:hunter2@127.0.0.1:{camera.port}/x", Wishes())()

    with RtspCamera(GREYS) as camera:
        camera.auth = "basic"
        threads = [threading.Thread(target=opening) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert cv2.utils.logging.getLogLevel() == cv2.utils.logging.LOG_LEVEL_SILENT


@contextmanager
def command(bundle: Path, address: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yield the running camera command; it is killed at the end if it still runs."""
    call = [sys.executable, "-m", "edgedistill.runtime", "camera", str(bundle), "--source", address, "--output", "jsonl", *arguments]
    process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def told(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Return all that a process printed, after a look for secrets in it."""
    out, err = process.communicate(timeout=30)
    for secret in (b"hunter2", b"user:", b"token", b"swordfish"):
        assert secret not in out + err
    return out, err


def test_the_command_prints_no_secret(bundle_path: Path) -> None:
    with RtspCamera(CARDS, fps=50) as camera:
        camera.auth, camera.password = "basic", "hunter2"
        address = camera.with_password(camera.address) + "?token=swordfish"
        with command(bundle_path, address, "--frames", "5") as process:
            out, err = told(process)
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 5
    assert {line["top_k"][0]["label"] for line in lines} <= set(tiny_bundle.LABELS)
    assert b"5 frames" in err


@pytest.mark.parametrize(
    ("password", "listens", "message"),
    [("wrong", True, "/stream refuses the user or the password"), ("hunter2", False, "/stream does not answer (")],
)
def test_the_command_prints_no_secret_when_it_fails(password: str, listens: bool, message: str, bundle_path: Path) -> None:
    with RtspCamera(CARDS) as camera:
        camera.auth, camera.password = "basic", password
        address = camera.address.replace("://", "://user:hunter2@")
        if not listens:
            camera.outage()
        with command(bundle_path, address) as process:
            out, err = told(process)
    assert (process.returncode, out) == (4, b"")
    assert message in err.decode()


@pytest.mark.slow
def test_the_command_prints_no_secret_in_an_outage(bundle_path: Path) -> None:
    with RtspCamera(CARDS, fps=30) as camera:
        camera.auth, camera.password = "digest", "hunter2"
        with command(bundle_path, camera.with_password(camera.address), "--wait") as process:
            for mode in ("broken", "die", "well", "nonsense", "well", "busy", "silent", "well"):
                until(lambda: camera.sent > 20)
                camera.mode = mode  # type: ignore[assignment]
                time.sleep(2.5)
                camera.sent = 0 if mode == "well" else 99
            camera.auth, camera.password = "basic", "another"
            camera.outage()
            time.sleep(1.5)
            camera.back()
            time.sleep(2.5)
            process.send_signal(signal.SIGTERM)
            out, err = told(process)
    assert process.returncode in (0, 143)
    assert len(out.splitlines()) > 50
    assert b"trying again until it is back" in err
    assert b": back after " in err


@pytest.mark.slow
@pytest.mark.parametrize("when", ["reading", "opening", "asking"])
def test_sigterm_ends_the_command_while_ffmpeg_is_blocked(when: str, bundle_path: Path) -> None:
    with RtspCamera(CARDS, fps=30) as camera:
        camera.mode = {"reading": "well", "opening": "silent", "asking": "deaf"}[when]  # type: ignore[assignment]
        with command(bundle_path, camera.address, "--wait") as process:
            until(lambda: bool(camera.requests) if when == "asking" else any(r.method == "PLAY" for r in camera.requests))
            if when == "reading":
                until(lambda: camera.sent > 10)
                camera.mode = "silent"
            time.sleep(0.7)
            began_s = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)
            assert time.monotonic() - began_s <= 2.0
    assert process.returncode in (0, 143)


@contextmanager
def away(camera: RtspCamera, kind: str) -> Iterator[None]:
    """Let a camera stay silent, refuse connections, or be unplugged."""
    if kind == "unplugged":
        with camera.unplugged():
            yield
    elif kind == "silent":
        camera.mode = "silent"
        yield
        camera.mode = "well"
    else:
        camera.outage()
        yield
        camera.back()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "fps", "away_s"),
    [
        *(("outage", 30.0, 5.0), ("outage", 5.0, 5.5), ("silent", 30.0, 5.0), ("silent", 5.0, 5.5)),
        *(("unplugged", 30.0, 4.0), ("unplugged", 30.0, 4.6), ("unplugged", 30.0, 5.2), ("unplugged", 30.0, 5.8)),
    ],
)
def test_the_first_frame_comes_within_two_seconds_of_the_cameras_return(kind: str, fps: float, away_s: float) -> None:
    with RtspCamera(GREYS, fps=fps) as camera, open_source(camera.address) as source:
        read(source)
        with away(camera, kind):
            end_s = time.monotonic() + away_s
            while time.monotonic() < end_s:
                source.read(0.1)
            last = source.counts.captured
        back_s = time.monotonic()
        read(source, lambda frame: frame.id >= last)
        took_s = time.monotonic() - back_s
    print(f"first frame {took_s:.2f} s after the return ({kind}, {fps:g} frames a second)")
    assert took_s <= 2.0


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("rtsp://host/x", "rtsp://host:554/x"),
        ("rtsp://me:a/b@host:8554/x", "rtsp://me:a%2Fb@host:8554/x"),
        ("rtsp://me:w\udcffrd@host/x", "rtsp://me:w%FFrd@host:554/x"),
    ],
)
def test_what_ffmpeg_is_given(text: str, given: str) -> None:
    assert rtsp_module._with_login(Address.parse(text)) == given
