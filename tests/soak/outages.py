"""Cameras that go away: a short outage of an HTTP camera and of an RTSP camera, and a thousand reconnects."""

from __future__ import annotations

import threading
import time

from children import classifier, growth, in_child, pictures
from entry import Entry, at_most, machine
from http_camera_server import HttpCamera
from rtsp_camera_server import RtspCamera

from edgedistill.runtime.camera import run
from edgedistill.runtime.frames import Frame, Source
from edgedistill.runtime.pace import Timing
from edgedistill.runtime.sources import open_source

ROUNDS, OUTAGE_S, FPS = 3, 5.0, 30.0
RECONNECTS, WARMUP = 1000, 100
EAGER = Timing(first_retry_s=0.0, eager_s=1e9, jitter=0)


def outage() -> list[Entry]:
    """Cut an HTTP camera off for 5 s, and time from its return to the first result."""
    return outages("HTTP camera", "first_result_after_outage_s", "frames_lost_beside_the_outage", HttpCamera)


def rtsp_outage() -> list[Entry]:
    """The same with an RTSP camera, which OpenCV's FFmpeg reads."""
    return outages("RTSP camera", "first_result_after_rtsp_outage_s", "frames_lost_beside_the_rtsp_outage", RtspCamera)


def outages(name: str, back: str, lost: str, camera: type[HttpCamera] | type[RtspCamera]) -> list[Entry]:
    """Return two entries, of the names `back` and `lost`, on several outages of a camera."""
    found = [one_outage(camera) for _ in range(ROUNDS)]
    how = f"{name}, {FPS:g} frames a second, cut off for {OUTAGE_S:g} s, {ROUNDS} times; worst of them; {machine()}"
    return [
        at_most(back, max(one["back_s"] for one in found), bound=2.0, unit="s", how=how),
        at_most(lost, max(one["lost"] for one in found), bound=0, unit="", how=how),
    ]


def one_outage(camera_type: type[HttpCamera] | type[RtspCamera]) -> dict[str, float]:
    """Return the time from the return to the first result, and the frames whose number is missing without a counted cause."""
    results: list[tuple[float, Frame]] = []
    over = threading.Event()
    classify = classifier()
    with camera_type(list(pictures()), fps=FPS) as camera, open_source(camera.address, ahead=classify.ahead()) as source:

        def loop() -> None:
            for frame, _ in run(classify, source, stop=over):
                results.append((time.monotonic(), frame))

        thread = threading.Thread(target=loop)
        thread.start()
        time.sleep(2)
        camera.outage()
        time.sleep(OUTAGE_S)
        camera.back()
        back_s = time.monotonic()
        time.sleep(4)
        over.set()
        thread.join()
        lost = source.counts.captured - len(results) - source.counts.dropped.get("newer frame", 0) - source.skipped
    first = next((at_s for at_s, _ in results if at_s > back_s), float("inf"))
    return {"back_s": first - back_s, "lost": float(max(0, lost - 1))}  # one may lie in the slot when the loop ends


def reconnects() -> list[Entry]:
    """Let an HTTP camera end its stream a thousand times."""
    found = in_child("outages", "reconnect_often", RECONNECTS)
    how = f"HTTP camera that ends its stream after 3 frames, {RECONNECTS} reconnects after {WARMUP} of warm-up; {machine()}"
    return [
        at_most("reconnects_rss_mb", found["rss_mb"], bound=2.0, unit="MB", how=how),
        at_most("reconnects_threads", found["threads"], bound=0, unit="", how=how),
        at_most("reconnects_descriptors", found["descriptors"], bound=0, unit="", how=how),
    ]


def reconnect_often(count: int) -> dict[str, float]:
    """Return what a number of reconnects keeps of memory, threads and descriptors."""
    with HttpCamera(list(pictures(3)), fps=0) as camera:
        camera.loop = False
        with open_source(camera.address, timing=EAGER, ahead=classifier().ahead()) as source:
            wait_for_reconnects(source, camera, WARMUP)
            return growth(lambda: wait_for_reconnects(source, camera, WARMUP + count))


def wait_for_reconnects(source: Source, camera: HttpCamera, count: int) -> None:
    """Read until a source was opened so often again, and delivers; the camera, in the same process, must not remember what it was asked."""
    while source.counts.reconnects < count:
        source.read(1.0)
        camera.requests.clear()
    while source.read(1.0) is None:
        pass
