"""What is recorded, and how much of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from edgedistill.errors import OutputError, close_matches

#: Without a lower threshold, it is so much under the upper one.
GAP = 0.2
LEAST_QUOTA = 1_000_000


class RecordOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What makes an event, and what is kept of it; raises OutputError for what cannot be.

    Args:
        folder: where events go; made if it is not there.
        classes: labels that make an event; all if none.
        above: an event begins once one of them is at or above this probability.
        below: and ends once none has been at or above this one for `post_roll_s`; by default `GAP` under `above`.
        pre_roll_s: how much of the time before it a clip has.
        longest_s: a longer event goes on in a new clip.
        quota_bytes: the oldest events are removed so that all together never take more.
        kind: a clip, or the picture with the best score and, with a pre-roll, one from before the event.
        fps: frames a second to keep at most; all by default.
    """

    folder: Path
    classes: tuple[str, ...] = ()
    above: float = 0.8
    below: float | None = None
    pre_roll_s: float = 3.0
    post_roll_s: float = 2.0
    longest_s: float = 60.0
    quota_bytes: int = 1_000_000_000
    kind: Literal["clip", "stills"] = "clip"
    fps: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.above <= 1 or not 0 <= self.lower <= self.above:
            raise OutputError(
                f"events cannot begin at {self.above:g} and end at {self.lower:g}: expected probabilities, the second not above the first"
            )
        if not (0 <= self.pre_roll_s < math.inf and 0 <= self.post_roll_s < math.inf and self.longest_s > 0):
            raise OutputError("pre-roll and post-roll are seconds of 0 or more, and the longest clip has more than 0")
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise OutputError(f"events cannot be recorded with {self.fps:g} frames a second: expected a number above 0")
        if self.quota_bytes < LEAST_QUOTA:
            raise OutputError(f"a quota of {self.quota_bytes} bytes is too little for any event: give 1M or more")

    def class_ids(self, labels: Sequence[str]) -> tuple[int, ...]:
        """Return the numbers of the classes that make an event, for `Classifier` to watch; raises OutputError for one that there is not."""
        for label in self.classes:
            if label not in labels:
                raise OutputError(f"there is no class {label!r} to record; known: {', '.join(labels)}.{close_matches(label, labels)}")
        return tuple(place for place, label in enumerate(labels) if not self.classes or label in self.classes)

    @property
    def lower(self) -> float:
        """The probability under which an event ends."""
        return max(0.0, self.above - GAP) if self.below is None else self.below
