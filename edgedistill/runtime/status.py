"""What a running camera loop says of itself: one snapshot, which the summary, the live page, the metrics and MQTT all tell alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from edgedistill.latency import Percentiles
from edgedistill.runtime.quality import Quality

State = Literal["opening", "running", "reconnecting", "ended"]
#: Results this old still flow, also if a camera starts over.
FLOWING_S = 5.0
#: And so many times what an inference takes.
FLOWING_INFERENCES = 3


class SourceStatus(NamedTuple):
    """One source, now.

    Args:
        name: without credentials.
        source: its place among the sources, from 0.
        fps: frames a second that arrived over the last seconds; None before there were two.
        expected_fps: nominal rate, if known.
        captured: frames that arrived since the start.
        dropped: frames that were lost, by cause.
        stalls: how often it stayed silent for longer than it may.
        age_s: seconds since its last frame; None before the first.
        patience_s: how long it may stay silent before that is a stall; None where nobody can say, such as for a pipe.
    """

    name: str
    source: int
    state: State
    quality: Quality
    fps: float | None
    expected_fps: float | None
    captured: int
    dropped: dict[str, int]
    reconnects: int
    stalls: int
    age_s: float | None
    patience_s: float | None = None

    @property
    def away(self) -> bool:
        """Whether it gives nothing and should, which is known and being put right."""
        return self.state in ("opening", "reconnecting")

    @property
    def overdue(self) -> bool:
        """Whether it runs but stays silent for longer than it may, and nobody has noticed."""
        if self.age_s is None or self.patience_s is None:
            return False
        return self.state == "running" and self.age_s > self.patience_s


class OutputStatus(NamedTuple):
    """One output, now: results that it took, that it was too slow for, and that it failed on with the last error."""

    name: str
    written: int
    dropped: int
    failed: int
    error: str | None


class Machine(NamedTuple):
    """The machine, now; None for what it does not tell.

    Args:
        temperature_c: of the hottest zone.
        throttled: what the firmware says of under-voltage and throttling, [] if all is well.
        rss_mb: resident memory of this process in 10^6 bytes.
    """

    temperature_c: float | None
    throttled: list[str] | None
    rss_mb: float | None


class Status(NamedTuple):
    """A run, now.

    Args:
        time_s: seconds since 1970.
        uptime_s: seconds since the loop began.
        results: how many since then.
        fps: results a second over the last seconds.
        quality: the worst source's.
        stages_ms: over the newest results; `total` is the age of the frame when its result was there.
        result_age_s: seconds since the last result; None before the first.
        answer: labels and probabilities of the last result by source index.
    """

    bundle: str
    file: str
    engine: str
    threads: int
    time_s: float
    uptime_s: float
    results: int
    fps: float | None
    quality: Quality
    sources: tuple[SourceStatus, ...]
    outputs: tuple[OutputStatus, ...]
    stages_ms: dict[str, Percentiles]
    machine: Machine
    result_age_s: float | None
    answer: dict[int, tuple[tuple[str, float], ...]]


def flowing(status: Status) -> bool:
    """Return whether results come, as far as the slowest source lets them."""
    return status.result_age_s is not None and status.result_age_s <= longest_silence_s(status)


def longest_silence_s(status: Status) -> float:
    """Return how long a run may give no result: as long as its slowest source may be silent, or three inferences, at least `FLOWING_S`."""
    patience_s = [source.patience_s for source in status.sources if source.patience_s is not None]
    inferences_s = FLOWING_INFERENCES * status.stages_ms["total"].p50 / 1e3 if "total" in status.stages_ms else 0.0
    return max(FLOWING_S, inferences_s, *patience_s)


def distinct(names: Sequence[str]) -> list[str]:
    """Return names of which no two are the same: those that come more than once get their place behind them."""
    counts = Counter(names)
    return [name if counts[name] == 1 else f"{name} #{place}" for place, name in enumerate(names)]
