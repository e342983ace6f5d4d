"""Searching the thinnest cut that is needed: few trials, because each is a conversion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from edgedistill.distill import pruning
from edgedistill.distill.pruning import Plan
from edgedistill.distill.widths import Size
from edgedistill.errors import RecipeError

#: Files that are written at most.
MOST_TRIALS = 6
#: A trial that uses this much of the target is good enough.
NEAR = 0.97


class Trial(NamedTuple):
    """A ratio, the network's size there, and what its file measured."""

    ratio: float
    size: Size
    value: float


@dataclass(frozen=True)
class Target:
    """What a file's measure may be at most.

    Args:
        follows: which size the measure follows nearly along a straight line.
        show: a value with its unit.
        safety: how much nearer to what fits the next trial is taken than the straight line between two says.
    """

    name: str
    most: float
    follows: Literal["parameters", "macs"]
    show: Callable[[float], str]
    safety: float = 0.02


def search(plan: Plan, target: Target, measure: Callable[[float], float]) -> Trial | None:
    """Return the trial that prunes least and keeps the target; None when the whole network does.

    Args:
        measure: writes the network at a ratio and returns what its file measures.

    Raises RecipeError when the thinnest network does not keep it.
    """

    def tried(ratio: float) -> Trial:
        return Trial(ratio, pruning.size_at(plan, ratio), measure(ratio))

    whole = tried(0.0)
    if whole.value <= target.most:
        return None
    best = tried(pruning.MOST)
    if best.value > target.most:
        raise RecipeError(
            f"student.prune.{target.name} = {target.show(target.most)} cannot be reached: the thinnest {plan.network.name} has "
            f"{target.show(best.value)}, the whole one {target.show(whole.value)}; allow at least that, make round_to or ignore smaller, "
            "or take a smaller network or input_size"
        )
    over = whole
    for _ in range(MOST_TRIALS - 2):
        if best.value >= NEAR * target.most:
            break
        ratio = _between(plan, target, best, over)
        if ratio is None:
            break
        trial = tried(ratio)
        best, over = (trial, over) if trial.value <= target.most else (best, trial)
    return best


def _between(plan: Plan, target: Target, best: Trial, over: Trial) -> float | None:
    """Return the ratio of the size that the straight line through two trials gives for the target; None when there is no new one."""
    low, high = getattr(best.size, target.follows), getattr(over.size, target.follows)
    share = (target.most - best.value) / (over.value - best.value)
    wanted = low + (high - low) * max(share - target.safety, share / 2)
    ratio = pruning.smallest_ratio(plan, lambda size: getattr(size, target.follows) <= wanted, target=target.name)
    size = pruning.size_at(plan, ratio)
    return None if size in (best.size, over.size) else ratio
