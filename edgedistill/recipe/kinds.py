"""The kinds of values that the tables of a recipe are made of."""

from __future__ import annotations

from typing import Annotated

import msgspec

Positive = Annotated[int, msgspec.Meta(ge=1)]
Natural = Annotated[int, msgspec.Meta(ge=0)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
AboveZero = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z")]
PerChannel = tuple[float, float, float]

#: The default normalization: pixel - 128, over 127.5, so that an int8 input tensor can hold camera bytes exactly.
HALF_MEAN: PerChannel = (128 / 255, 128 / 255, 128 / 255)
HALF_STD: PerChannel = (0.5, 0.5, 0.5)


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frozen record that refuses unknown keys."""
