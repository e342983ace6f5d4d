"""The camera loop: frames in, results out, with the time each stage took. What is done with results is `outputs`' business."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from edgedistill.bundle import Bundle
from edgedistill.postprocess import Prediction, TopK
from edgedistill.preprocess import Preprocessor
from edgedistill.runtime.ahead import Ahead
from edgedistill.runtime.engines import Engine
from edgedistill.runtime.frames import Frame, Source
from edgedistill.runtime.turns import Turns

#: How long one wait for a frame lasts, so that a stop is seen in time.
WAIT_S = 0.2


class Result(NamedTuple):
    """The answer for one frame.

    Args:
        top_k: likeliest class first; those below the threshold are left out.
        frame_id: the number of the frame, see `Frame`.
        captured_s: when the frame arrived, monotonic clock.
        time_s: the same in seconds since 1970.
        stages_ms: capture, preprocess, invoke, postprocess, and total, from the frame's arrival to this result.
        dropped: frames that were dropped since the start.
        source: the place of the frame's source, from 0.
        watched: the likeliest of the classes that are watched, see `Classifier`, even if `top_k` lacks it; None if none is watched.
    """

    top_k: tuple[Prediction, ...]
    frame_id: int
    captured_s: float
    time_s: float
    stages_ms: dict[str, float]
    dropped: int
    source: int = 0
    watched: Prediction | None = None


class Classifier:
    """From a frame to its `Result`: preprocessing, engine and top-k of one bundle, each of them timed.

    Args:
        engine: what `open_engine` returned for this bundle.
        top_k: how many classes a result has at most.
        threshold: smallest probability to report, 0 to 1.
        watched: numbers of classes, the likeliest of which a result holds in any case, for whoever waits for one of them.
    """

    def __init__(self, bundle: Bundle, engine: Engine, *, top_k: int = 1, threshold: float = 0.0, watched: Sequence[int] = ()) -> None:
        self.bundle, self.engine = bundle, engine
        self._preprocess = Preprocessor(bundle.manifest.input)
        self._logits = np.empty(len(bundle.manifest.labels), np.float32)
        self._answer = TopK(bundle.manifest.labels, k=top_k, threshold=threshold, watched=watched)

    def ahead(self) -> Ahead:
        """Return what prepares frames for this in the threads of sources, while the network runs; see `open_source`."""
        return Ahead(self.bundle.manifest.input, self.engine.model)

    def __call__(self, frame: Frame, *, dropped: int = 0) -> Result:
        engine = self.engine
        ahead_ms, start = 0.0, time.perf_counter()
        if frame.prepared is not None and frame.prepared.fits(engine.model):
            engine.copy_input(frame.prepared.place.tensor)
            ahead_ms = frame.prepared.took_ms
        else:
            engine.set_input(self._preprocess(frame.frame_bgr, engine.input_pixels()))
        prepared = time.perf_counter()
        engine.invoke()
        invoked = time.perf_counter()
        answer = self._answer(engine.read_logits(self._logits))
        watched = self._answer.watched()
        end = time.perf_counter()
        stages_ms = {
            "capture": frame.capture_ms,
            "preprocess": ahead_ms + (prepared - start) * 1e3,
            "invoke": (invoked - prepared) * 1e3,
            "postprocess": (end - invoked) * 1e3,
            "total": frame.capture_ms + ahead_ms + (end - start) * 1e3,
        }
        return Result(answer, frame.id, frame.captured_s, frame.time_s, stages_ms, dropped, frame.source, watched)


class LoopOptions(msgspec.Struct, frozen=True, kw_only=True):
    """When a run ends: after `frames`, after `duration_s`, or with the source."""

    frames: int | None = None
    duration_s: float | None = None


DEFAULTS = LoopOptions()


def run(
    classify: Classifier,
    source: Source | Turns,
    *,
    options: LoopOptions = DEFAULTS,
    stop: threading.Event | None = None,
    idle: Callable[[], bool] = lambda: True,
) -> Iterator[tuple[Frame, Result]]:
    """Yield each frame with its result until the source or the options end the run, or `stop` is set.

    Args:
        idle: called about every `WAIT_S` while there is no frame to answer; returns whether the run goes on.
    """
    for frame in frames(source, options, stop=stop or threading.Event(), idle=idle):
        yield frame, classify(frame, dropped=source.dropped)


def frames(source: Source | Turns, options: LoopOptions, *, stop: threading.Event, idle: Callable[[], bool]) -> Iterator[Frame]:
    """Yield a source's frames until it or the options end."""
    began_s = time.monotonic()
    count = 0
    while not stop.is_set() and count != options.frames:
        frame = source.read(WAIT_S)
        if options.duration_s is not None and time.monotonic() - began_s >= options.duration_s:
            return
        if frame is not None:
            count += 1
            yield frame
        elif source.ended or not idle():
            return
