"""What a range is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Range(NamedTuple):
    """The values that a tensor's 8 bits are spread over, 0 always among them: `low` <= 0 <= `high`."""

    low: float
    high: float


#: By node of the graph, its input included.
Ranges = Mapping[str, Range]
