"""Averages of teachers against probabilities that are worked out by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

import made
import pytest
import torch

from edgedistill.distill.loader import ViewBatch
from edgedistill.distill.teachers import Answers, Ensemble, Member
from edgedistill.distill.teachers.ensemble import Average, averaged
from edgedistill.errors import RecipeError

FIRST = torch.tensor([[0.5, 0.25, 0.25], [0.8, 0.1, 0.1]])
SECOND = torch.tensor([[0.1, 0.1, 0.8], [0.2, 0.4, 0.4]])


def test_probabilities_are_averaged_by_weight() -> None:
    mean = averaged([FIRST.log(), SECOND.log() + 7], [0.75, 0.25], "probabilities")
    assert torch.allclose(mean.softmax(1), torch.tensor([[0.4, 0.2125, 0.3875], [0.65, 0.175, 0.175]]), atol=1e-6)


def test_logits_are_averaged_by_weight() -> None:
    assert torch.allclose(
        averaged([torch.tensor([[1.0, 3.0]]), torch.tensor([[5.0, -1.0]])], [0.75, 0.25], "logits"), torch.tensor([[2.0, 2.0]])
    )


def test_a_certain_teacher_gives_no_infinite_logits() -> None:
    certain = torch.tensor([[200.0, 0.0]])
    assert torch.isfinite(averaged([certain, certain], [0.5, 0.5], "probabilities")).all()


class Constant:
    """A teacher with one answer."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits
        self.identity: Mapping[str, Any] = {"logits": logits.tolist()}
        self.facts: Mapping[str, Any] = {}

    def to(self, device: torch.device) -> None:
        self.moved = device

    def answer(self, batch: ViewBatch, layers: Sequence[str] = ()) -> Answers:
        return Answers(self.logits)


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_only_the_ratio_of_weights_counts(average: Average) -> None:
    one, two = (
        Ensemble([Member(Constant(FIRST.log()), 3 * factor), Member(Constant(SECOND.log()), factor)], average) for factor in (1.0, 10.0)
    )
    assert torch.allclose(one.answer(made.views(2)).logits, two.answer(made.views(2)).logits)
    assert one.identity == two.identity


def test_all_members_are_moved_and_none_has_layers() -> None:
    members = [Constant(FIRST), Constant(SECOND)]
    ensemble = Ensemble([Member(member, 1.0) for member in members], "logits")
    ensemble.to(torch.device("cpu"))
    assert [member.moved for member in members] == [torch.device("cpu")] * 2
    with pytest.raises(RecipeError, match="an ensemble has only logits, no layers 2, 3"):
        ensemble.answer(made.views(2), ["2", "3"])
