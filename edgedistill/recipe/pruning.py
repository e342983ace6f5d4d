"""The [student.prune] table of a recipe: how much thinner a trained student becomes before it is distilled again."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edgedistill.recipe.kinds import AboveZero, Positive, Table

BelowOne = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Importance = Literal["l2", "batch_norm", "random"]


class Prune(Table, frozen=True, kw_only=True):
    """Whole channels to take out of the student; the first convolution and the outputs stay.

    How many is said by `ratio`, or by one target: `macs`, `bytes` or `latency_ms`.
    """

    importance: Importance = "l2"
    """What a channel counts: the norm of all weights that belong to it, its scale in the batch norm, or nothing (a control)."""
    ratio: BelowOne | None = None
    """Fraction of all channels to remove, ranked over the whole network; beside a target, what was found for it."""
    macs: BelowOne | None = None
    """Target: the fraction of the multiply-accumulates that may stay."""
    bytes: Positive | None = None
    """Target: the largest size of the exported `file`."""
    latency_ms: AboveZero | None = None
    """Target: the largest median latency of the exported `file`, on this machine or scaled to the board of `profile`."""
    file: Literal["tflite-fp32", "tflite-int8"] = "tflite-fp32"
    """Which exported file the target is of."""
    profile: str | None = None
    """Folder of a board such as devices/rpi4: the target is of this board, estimated by a published figure."""
    threads: Positive = 1
    """Threads that the latency is measured with."""
    round_to: Positive = 8
    """Channels come in multiples of this; the kernels of XNNPACK work on 8 at a time."""
    ignore: tuple[str, ...] = ()
    """Layers that keep their channels, by their dotted names; what lies inside of them, too."""

    def __post_init__(self) -> None:
        given = [name for name in ("macs", "bytes", "latency_ms") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"prune has the targets {' and '.join(given)}, expected one")
        if not given and self.ratio is None:
            raise ValueError("prune needs ratio, or a target: macs, bytes or latency_ms")
        if self.profile is not None and self.latency_ms is None:
            raise ValueError("prune.profile is for latency_ms; the other targets are the same on every board")
