"""One word for how well a source delivers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

Quality = Literal["excellent", "fair", "poor", "unusable"]
#: From the best to the worst.
WORDS: tuple[Quality, ...] = get_args(Quality)


def worst(words: Iterable[Quality]) -> Quality:
    """Return the worst of some words, `excellent` of none."""
    return max(words, key=WORDS.index, default="excellent")


#: Troubles count for so long.
HOUR_S = 3600.0
#: Silent for longer than this, a source is of no use now.
AWAY_S = 10.0
#: What each word allows: reconnects and stalls in the last hour, and the share of the expected rate; the last word allows all.
EXCELLENT, FAIR, POOR = (0, 4, 0.9), (2, 20, 0.6), (10, 100, 0.0)


def quality(fps: float | None, expected_fps: float | None, *, reconnects: int, stalls: int, silent_s: float = 0.0) -> Quality:
    """Return the word for a source.

    Args:
        fps: the measured rate; None, or no expected rate, leaves the rate out.
        reconnects: of the last hour, as `stalls`.
        silent_s: how long it has been away; 0 while it delivers.
    """
    slow = fps is not None and fps < 1 and (expected_fps or 0) > 1
    if silent_s > AWAY_S or slow:
        return "unusable"
    share = fps / expected_fps if fps is not None and expected_fps else 1.0
    limits: tuple[tuple[Quality, tuple[int, int, float]], ...] = (("excellent", EXCELLENT), ("fair", FAIR), ("poor", POOR))
    for word, (most_reconnects, most_stalls, least_share) in limits:
        if reconnects <= most_reconnects and stalls <= most_stalls and share >= least_share and (word == "poor" or silent_s == 0):
            return word
    return "unusable"
