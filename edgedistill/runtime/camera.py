"""The camera loop: frames in, results out, with the time each stage took. What is done with results is `outputs`' business."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from edgedistill.bundle import Bundle
from edgedistill.errors import SourceError
from edgedistill.latency import LatencyRecorder, Percentiles
from edgedistill.postprocess import Prediction, top_k
from edgedistill.preprocess import Preprocessor
from edgedistill.runtime import process
from edgedistill.runtime.engines import Engine
from edgedistill.runtime.frames import Frame, Source

#: How long one wait for a frame lasts, so that a stop is seen in time.
WAIT_S = 0.2
#: Latencies of so many newest frames make the summary's percentiles; a camera may run for months.
KEEP_FRAMES = 10_000


class Result(NamedTuple):
    """The answer for one frame.

    Args:
        top_k: likeliest class first; those below the threshold are left out.
        frame_id: the number of the frame, see `Frame`.
        captured_s: when the frame arrived, monotonic clock.
        time_s: the same in seconds since 1970.
        stages_ms: capture, preprocess, invoke, postprocess, and total, from the frame's arrival to this result.
        dropped: frames that were dropped since the start.
    """

    top_k: tuple[Prediction, ...]
    frame_id: int
    captured_s: float
    time_s: float
    stages_ms: dict[str, float]
    dropped: int


class Classifier:
    """From a frame to its `Result`: preprocessing, engine and top-k of one bundle, each of them timed.

    Args:
        engine: what `open_engine` returned for this bundle.
        top_k: how many classes a result has at most.
        threshold: smallest probability to report, 0 to 1.
    """

    def __init__(self, bundle: Bundle, engine: Engine, *, top_k: int = 1, threshold: float = 0.0) -> None:
        self.bundle, self.engine, self.top_k, self.threshold = bundle, engine, top_k, threshold
        self._preprocess = Preprocessor(bundle.manifest.input)

    def __call__(self, frame: Frame, *, dropped: int = 0) -> Result:
        engine = self.engine
        start = time.perf_counter()
        engine.set_input(self._preprocess(frame.frame_bgr))
        prepared = time.perf_counter()
        engine.invoke()
        invoked = time.perf_counter()
        answer = top_k(engine.logits(), self.bundle.manifest.labels, k=self.top_k, threshold=self.threshold)
        end = time.perf_counter()
        stages_ms = {
            "capture": frame.capture_ms,
            "preprocess": (prepared - start) * 1e3,
            "invoke": (invoked - prepared) * 1e3,
            "postprocess": (end - invoked) * 1e3,
            "total": frame.capture_ms + (end - start) * 1e3,
        }
        return Result(answer, frame.id, frame.captured_s, frame.time_s, stages_ms, dropped)


class LoopOptions(msgspec.Struct, frozen=True, kw_only=True):
    """When a run ends: after `frames`, after `duration_s`, or with the source.

    A source that gives nothing for `stall_s` is an error.
    """

    frames: int | None = None
    duration_s: float | None = None
    stall_s: float = 10.0


DEFAULTS = LoopOptions()


def run(
    classify: Classifier, source: Source, *, options: LoopOptions = DEFAULTS, stop: threading.Event | None = None
) -> Iterator[tuple[Frame, Result]]:
    """Yield each frame with its result until the source or the options end the run, or `stop` is set."""
    for frame in frames(source, options, stop=stop or threading.Event()):
        yield frame, classify(frame, dropped=source.dropped)


def frames(source: Source, options: LoopOptions, *, stop: threading.Event) -> Iterator[Frame]:
    """Yield a source's frames until it or the options end; raises SourceError if it stalls."""
    began_s = arrived_s = time.monotonic()
    count = 0
    while not stop.is_set() and count != options.frames:
        frame = source.read(WAIT_S)
        now_s = time.monotonic()
        if options.duration_s is not None and now_s - began_s >= options.duration_s:
            return
        if frame is not None:
            count += 1
            yield frame
            arrived_s = time.monotonic()
        elif source.ended:
            return
        elif now_s - arrived_s > options.stall_s:
            raise SourceError(f"{source.name} gave no frame for {options.stall_s:g} s; check that it is connected and not used elsewhere")


class Summary(NamedTuple):
    """A whole run: how many frames, how fast, and what was lost on the way.

    Args:
        fps: results a second, from the first result to the last; None for a single one.
        skipped: frames that could not be decoded.
        stages_ms: percentiles over the newest `KEEP_FRAMES` results.
        first_result_s: from the start of the process to the first result; None without any.
    """

    frames: int
    fps: float | None
    dropped: int
    skipped: int
    stages_ms: dict[str, Percentiles]
    first_result_s: float | None


class Tally:
    """Counts results as they come, for the summary."""

    def __init__(self) -> None:
        self._recorder = LatencyRecorder(keep=KEEP_FRAMES)
        self._first_s = self._last_s = 0.0
        self._first_result_s: float | None = None

    def add(self, result: Result) -> None:
        """Count one result, now."""
        self._last_s = time.monotonic()
        if self._first_result_s is None:
            self._first_result_s = process.age_s()
            self._first_s = self._last_s
        self._recorder.add(result.stages_ms)

    def summary(self, source: Source) -> Summary:
        """Return what was counted, with the source's own counts."""
        count, spent_s = self._recorder.frames, self._last_s - self._first_s
        fps = (count - 1) / spent_s if spent_s > 0 else None
        return Summary(count, fps, source.dropped, source.skipped, self._recorder.summary(), self._first_result_s)
