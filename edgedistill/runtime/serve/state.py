"""A run as the page and other programs read it: one JSON document with a schema number, whether it is ready, and two minutes of latency."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from edgedistill.latency import STAGES, Percentiles
from edgedistill.runtime.status import Status, flowing

SCHEMA = 1
#: One point a second.
HISTORY_POINTS = 120
#: Stages that follow each other, without their total.
PARTS = tuple(stage for stage in STAGES if stage != "total")


def document(status: Status, *, preview: bool) -> dict[str, Any]:
    """Return a run as what becomes JSON; names as in `Status`, each source with its own last answer."""
    reason = not_ready(status)
    plain = status._asdict()
    answers = plain.pop("answer")
    return {
        "schema": SCHEMA,
        **plain,
        "ready": reason is None,
        "reason": reason,
        "preview": preview,
        "sources": [source._asdict() | {"answer": _answer(answers.get(source.source))} for source in status.sources],
        "outputs": [output._asdict() for output in status.outputs],
        "stages_ms": {stage: found._asdict() for stage, found in status.stages_ms.items()},
        "machine": status.machine._asdict(),
    }


def _answer(found: tuple[tuple[str, float], ...] | None) -> list[dict[str, Any]] | None:
    return None if found is None else [{"label": label, "score": score} for label, score in found]


def not_ready(status: Status) -> str | None:
    """Return why results are not flowing, None if they are."""
    if flowing(status):
        return None
    age_s = status.result_age_s
    silent = "no result yet" if age_s is None else f"no result for {age_s:.0f} s"
    return "; ".join([silent, *(f"{source.name} is {source.state}" for source in status.sources if source.state != "running")])


class History:
    """The latency of the last two minutes, one point a second: of each stage p50, of all together p50 and p99.

    A second without results is a point of None, so that an outage shows.
    """

    def __init__(self) -> None:
        self._points: deque[tuple[float, ...] | None] = deque(maxlen=HISTORY_POINTS)
        self._results: int | None = None

    def add(self, results: int, latency: Callable[[int], Mapping[str, Percentiles]]) -> None:
        """Take a point.

        Args:
            results: how many there were since the start.
            latency: returns the percentiles of the newest so many.
        """
        new = results - (self._results or 0)
        self._results = results
        if new <= 0:
            self._points.append(None)
            return
        found = latency(new)
        parts = (found[stage].p50 if stage in found else 0.0 for stage in PARTS)
        self._points.append((*parts, found["total"].p50, found["total"].p99))

    def columns(self) -> dict[str, list[float | None]]:
        """Return the points, oldest first, as a list for each of capture, preprocess, invoke, postprocess, p50, p99; milliseconds."""
        names = (*PARTS, "p50", "p99")
        return {name: [None if point is None else round(point[place], 3) for point in self._points] for place, name in enumerate(names)}
