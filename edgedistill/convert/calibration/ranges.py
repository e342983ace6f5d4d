"""Ranges of 8 bits from the values that were observed: all of them, all but a few images' extremes, or the best compromise.

What an operator fixes is fixed here as well: the camera's byte, the bounds of a clip, one range for all that only moves values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from edgedistill.convert.calibration.observe import Statistics, Values
from edgedistill.convert.calibration.span import Range
from edgedistill.errors import ConvertError

#: Percent of the images whose extremes a range of `percentile` holds; the others would cost all images their resolution.
KEPT = 99.5
#: Steps of 8 bits.
_STEPS = 255
#: A value that is never anything but 0 gets a range all the same: scales of 0 are not allowed.
_DEAD = 1e-6

Method = Literal["minmax", "percentile", "mse"]


def ranges_of(statistics: Statistics, method: Method) -> dict[str, Range]:
    """Return the range of every float node and the input, in the order of the graph.

    Args:
        method: `minmax` holds all values, `percentile` all but the most extreme images' (`KEPT`), `mse` makes the expected
            squared error of 8-bit values smallest.
    """
    if method not in CHOICES:
        raise ConvertError(f"export.ranges: there is no method {method!r}, known are {', '.join(CHOICES)}")
    choose = CHOICES[method]
    found: dict[str, Range] = {}
    for name, rule in statistics.rules.items():
        if rule.fixed is not None:
            found[name] = rule.fixed
        elif rule.like is not None:
            found[name] = found[rule.like]
        else:
            found[name] = _with_zero(choose(statistics.values[name]))
    return found


def _with_zero(found: Range) -> Range:
    """Return a range with 0 in it that is not empty."""
    low, high = min(found.low, 0.0), max(found.high, 0.0)
    return Range(low, high) if high - low > _DEAD else Range(0.0, 1.0)


def _minmax(values: Values) -> Range:
    return Range(float(values.lows.min()), float(values.highs.max()))


def _percentile(values: Values) -> Range:
    return Range(float(np.percentile(values.lows, 100 - KEPT)), float(np.percentile(values.highs, KEPT)))


def _mse(values: Values) -> Range:
    """Return the range with the smallest sum of what rounding inside and clipping outside cost."""
    if values.below is None or values.above is None:
        raise ConvertError("the statistics have no histograms, which ranges of method 'mse' need; observe with histograms=True")
    lows, clipped_low, lost_low = _clipping(values.below, float(-min(values.lows.min(), 0)))
    highs, clipped_high, lost_high = _clipping(values.above, float(max(values.highs.max(), 0)))
    inside = values.below.sum() + values.above.sum() - lost_low[:, None] - lost_high[None, :]
    rounding = ((lows[:, None] + highs[None, :]) / _STEPS) ** 2 / 12
    low, high = np.unravel_index(np.argmin(inside * rounding + clipped_low[:, None] + clipped_high[None, :]), inside.shape)
    return Range(-float(lows[low]), float(highs[high]))


def _clipping(counts: np.ndarray, extreme: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (K,) bounds to clip magnitudes at, the squared error that each costs, and how many values each clips.

    Args:
        counts: (B,) how many magnitudes lie in each of B equal bins from 0 to `extreme`.
    """
    width = extreme / len(counts)
    bounds = np.arange(len(counts) + 1) * width
    centres = bounds[:-1] + width / 2
    # Sums over the bins at and above each bound; the last bound clips none.
    number, first, second = (np.append(np.cumsum((counts * centres**power)[::-1])[::-1], 0.0) for power in (0, 1, 2))
    return bounds, np.maximum(second - 2 * bounds * first + bounds**2 * number, 0), number


CHOICES: dict[str, Callable[[Values], Range]] = {"minmax": _minmax, "percentile": _percentile, "mse": _mse}
