"""The search for a ratio: few trials, the target kept, and a clear word where it cannot be."""

import pytest
import torch

from edgedistill import recipe
from edgedistill.distill import networks, pruning
from edgedistill.distill.pruning import Plan
from edgedistill.errors import RecipeError
from edgedistill.recipe import Prune
from edgedistill.thinning.search import MOST_TRIALS, Target, search


@pytest.fixture(scope="module")
def plan() -> Plan:
    """A network of some size; nothing of it is cut or run here."""
    torch.manual_seed(0)
    student = recipe.Student(model="timm:mobilenetv2_050", input_size=32)
    return pruning.plan_of(networks.build(student, tuple("abcdef")), Prune(latency_ms=1))


def target(most: float, follows: str = "macs") -> Target:
    return Target("latency_ms", most, follows, lambda value: f"{value:.2f} ms")  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0.4, 0.6, 0.9])
@pytest.mark.parametrize("follows", ["macs", "parameters"])
@pytest.mark.parametrize("bend", [1.0, 0.8, 1.3])
def test_the_target_is_kept_and_nearly_used_in_few_trials(plan: Plan, share: float, follows: str, bend: float) -> None:
    """What is measured need not follow the size along a straight line."""
    asked: list[float] = []

    def measure(ratio: float) -> float:
        asked.append(ratio)
        return 1 + 9 * float(getattr(pruning.size_at(plan, ratio), follows) / getattr(plan.size, follows)) ** bend

    found = search(plan, target(1 + 9 * share, follows), measure)
    assert found is not None
    assert 0.9 * (1 + 9 * share) <= found.value <= 1 + 9 * share
    assert found.value == measure(found.ratio)
    assert len(asked) - 1 <= MOST_TRIALS
    assert len(set(asked)) == len(asked) - 1


def test_a_network_that_keeps_the_target_is_left_whole(plan: Plan) -> None:
    asked: list[float] = []
    assert search(plan, target(5), lambda ratio: asked.append(ratio) or 4.0) is None
    assert asked == [0.0]


def test_what_cannot_be_reached_is_told_with_what_can(plan: Plan) -> None:
    with pytest.raises(RecipeError, match=r"latency_ms = 1.00 ms cannot be reached: the thinnest .* has 2.00 ms, the whole one 4.00 ms"):
        search(plan, target(1), lambda ratio: 4.0 if ratio == 0 else 2.0)


def test_a_measure_that_does_not_follow_the_size_ends_with_what_fits(plan: Plan) -> None:
    found = search(plan, target(3), lambda ratio: 2.0 if ratio == pruning.MOST else 4.0)
    assert found is not None
    assert found.ratio == pruning.MOST
