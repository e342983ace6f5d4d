"""What a user wants of a source's frames: size and rate, which a camera may refuse, and the part, turn and mirror, which it cannot.

A module of its own, because the kinds of captures and what chooses among them both need it.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from edgedistill.errors import SourceError, close_matches

Flip = Literal["none", "horizontal", "vertical", "both"]
FLIPS: tuple[Flip, ...] = ("none", "horizontal", "vertical", "both")
Roi = tuple[int, int, int, int] | tuple[float, float, float, float]
ROTATIONS = (0, 90, 180, 270)
LARGEST_SIDE = 16_384
HIGHEST_FPS = 1000.0


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a source; raises SourceError for what no source could do.

    Args:
        width: of the frames to capture in pixels, before region of interest and rotation; None leaves it to the source.
        height: likewise.
        fps: frames a second to ask for.
        rotate: degrees clockwise, 0, 90, 180 or 270.
        flip: mirrors left and right (horizontal), top and bottom (vertical) or both, after the rotation.
        roi: region of interest (x, y, width, height) of the captured frame, the only part that is used: in pixels if all four
            are int, otherwise in fractions of the frame's width and height, 0 to 1.
    """

    width: int | None = None
    height: int | None = None
    fps: float | None = None
    rotate: int = 0
    flip: Flip = "none"
    roi: Roi | None = None

    def __post_init__(self) -> None:
        for name, side in (("width", self.width), ("height", self.height)):
            if side is not None and not 1 <= side <= LARGEST_SIDE:
                raise SourceError(f"{name} {side}: expected pixels from 1 to {LARGEST_SIDE}; leave it out to take what the camera gives")
        if self.fps is not None and not (math.isfinite(self.fps) and 0 < self.fps <= HIGHEST_FPS):
            raise SourceError(f"fps {self.fps:g}: expected frames a second above 0, at most {HIGHEST_FPS:g}")
        if self.rotate not in ROTATIONS:
            raise SourceError(f"rotate {self.rotate}: expected degrees clockwise, one of {', '.join(map(str, ROTATIONS))}")
        if self.flip not in FLIPS:
            raise SourceError(f"flip {self.flip!r}: expected one of {', '.join(FLIPS)}.{close_matches(self.flip, FLIPS)}")
        if self.roi is not None:
            _check_roi(self.roi)

    @property
    def turn(self) -> bool:
        """Whether frames have to be cut, rotated or mirrored."""
        return self.rotate != 0 or self.flip != "none" or self.roi is not None


def parse_roi(text: str) -> Roi:
    """Return the region of interest that `X,Y,WIDTH,HEIGHT` stands for: pixels, or with a decimal point fractions of the sides."""
    parts, whole = text.split(","), "." not in text
    try:
        x, y, width, height = (int(part) if whole else float(part) for part in parts)
    except ValueError as error:
        raise SourceError(
            f"region of interest {text!r}: expected four numbers X,Y,WIDTH,HEIGHT, "
            "pixels such as 100,0,480,480 or fractions such as 0.2,0,0.5,1"
        ) from error
    roi = (x, y, width, height)
    _check_roi(roi)
    return roi


def in_pixels(roi: Roi, height: int, width: int) -> tuple[int, int, int, int]:
    """Return a region of interest (x, y, width, height) in pixels of a frame of this size, at least one pixel; it may lie outside."""
    if all(isinstance(value, int) for value in roi):
        x, y, w, h = (int(value) for value in roi)
        return x, y, w, h
    left, top = min(width - 1, round(roi[0] * width)), min(height - 1, round(roi[1] * height))
    return left, top, max(1, round((roi[0] + roi[2]) * width) - left), max(1, round((roi[1] + roi[3]) * height) - top)


def _check_roi(roi: Roi) -> None:
    x, y, width, height = roi
    whole = all(isinstance(value, int) for value in roi)
    edge = LARGEST_SIDE if whole else 1 + 1e-6
    if not (min(x, y) >= 0 and min(width, height) > 0 and max(x + width, y + height) <= edge):
        told = ",".join(str(value)[:20] if whole else f"{value:g}" for value in roi)
        raise SourceError(
            f"region of interest {told}: expected X and Y (upper left corner) of 0 or more, WIDTH and HEIGHT above 0, "
            f"and no edge beyond {f'{LARGEST_SIDE} pixels' if whole else '1, the whole side'}"
        )
