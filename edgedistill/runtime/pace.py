"""How fast frames come, by count over span, which bursts do not fool; and after which times without one something is done."""

from __future__ import annotations

from collections import deque

import msgspec

#: Over how long the rate is counted.
RATE_S = 5.0
#: Over so many newest arrivals the interval is measured.
INTERVAL_OVER = 30
#: Silence of so many seconds and so many intervals is a stall.
STALL_S, STALL_INTERVALS = 2.0, 3.0
#: So many arrivals are remembered; where they come faster than these fill `RATE_S`, the rate is counted over less.
KEEP = 600


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """When a source counts as stalled, and when it is opened again.

    A stall is no frame for `stall_intervals` intervals, at least `stall_s`; an opening may take `open_s`, and so long may frames come of
    which none can be decoded. During the first `eager_s` of an outage the pause before a retry is `first_retry_s`, so that a short one
    costs little; then it doubles up to `longest_retry_s`. It varies by `jitter`, so that many devices do not ask one camera at once, and
    starts over once frames have come for `healthy_s`, or once the source is there that was not, as `presence` tells every `first_retry_s`.
    """

    stall_s: float = STALL_S
    stall_intervals: float = STALL_INTERVALS
    open_s: float = 10.0
    first_retry_s: float = 1.0
    eager_s: float = 10.0
    longest_retry_s: float = 10.0
    jitter: float = 0.2
    healthy_s: float = 30.0


class Pace:
    """Remembers when the newest frames arrived, and which of them were whole; its user guards it against threads."""

    def __init__(self) -> None:
        self._arrivals_s: deque[float] = deque(maxlen=KEEP)
        self._whole: deque[bool] = deque(maxlen=KEEP)

    @property
    def last_s(self) -> float | None:
        """When the newest frame arrived."""
        return self._arrivals_s[-1] if self._arrivals_s else None

    def add(self, now_s: float, *, whole: bool = True) -> None:
        """Remember an arrival; times never fall."""
        self._arrivals_s.append(now_s)
        self._whole.append(whole)

    def clear(self) -> None:
        """Forget all arrivals: what comes next may have another rate."""
        self._arrivals_s.clear()
        self._whole.clear()

    def fps(self, now_s: float) -> float | None:
        """Return how many a second came over the last `RATE_S`, which falls once they stop; None for fewer than two."""
        recent = [arrival_s for arrival_s in self._arrivals_s if now_s - arrival_s <= RATE_S]
        if len(recent) < 2:
            return None
        intervals, span_s = len(recent) - 1, recent[-1] - recent[0]
        # The next one is due an interval after the newest; only a longer silence makes the rate fall.
        return intervals / max(span_s, now_s - recent[0] - span_s / intervals, 1e-9)

    def whole_share(self, now_s: float) -> float:
        """Return which part of the last `RATE_S`' frames was whole, 0 to 1; 1 for none at all."""
        recent = [whole for arrival_s, whole in zip(self._arrivals_s, self._whole, strict=True) if now_s - arrival_s <= RATE_S]
        return sum(recent) / len(recent) if recent else 1.0

    def interval_s(self) -> float | None:
        """Return the mean time between the newest arrivals; None for fewer than two."""
        newest = list(self._arrivals_s)[-INTERVAL_OVER:]
        return (newest[-1] - newest[0]) / (len(newest) - 1) if len(newest) > 1 else None
