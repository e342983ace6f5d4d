"""Two lists of class names that must be one: the check, and the message that shows where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

#: Lines of a comparison; longer lists show only the lines that differ, and of these no more than this.
SHOWN = 40


def side_by_side(found: Sequence[str], wanted: Sequence[str], *, whose: str) -> str:
    """Return two lists of names as a table, one class a line, with a mark where they differ.

    Args:
        found: the names that `whose` ("teacher", "weights") has.
        wanted: the data's names.
    """
    pairs = [
        (str(i), left, right, "" if left == right else "  <") for i, (left, right) in enumerate(zip_longest(found, wanted, fillvalue="-"))
    ]
    shown = pairs if len(pairs) <= SHOWN else [pair for pair in pairs if pair[3]]
    rows = [("", whose, "data", ""), *shown[:SHOWN]]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row[:3], widths, strict=True)).rstrip() + row[3] for row in rows]
    if len(shown) > SHOWN:
        lines.append(f"… and {len(shown) - SHOWN} more")
    return "\n".join("  " + line for line in lines)


def difference(found: Sequence[str], wanted: Sequence[str], *, whose: str) -> str | None:
    """Return what is wrong with the names, with both lists, or None when they are the same in the same order."""
    if list(found) == list(wanted):
        return None
    if len(found) != len(wanted):
        what = f"{len(found)} classes, the data has {len(wanted)}"
    else:
        what = "the data's classes in another order" if sorted(found) == sorted(wanted) else "other classes than the data"
    return f"{what}:\n{side_by_side(found, wanted, whose=whose)}\n"
