"""Losses against values computed by hand, and the properties that the papers state."""

import math

import pytest
import torch
from torch.nn import functional

from edgedistill.distill.losses import LOSSES, check_terms, total_loss
from edgedistill.distill.losses.batch import Batch
from edgedistill.errors import RecipeError
from edgedistill.recipe import Term


def batch(student: list[list[float]], teacher: list[list[float]] | None = None, labels: list[int] | None = None) -> Batch:
    return Batch(
        torch.tensor(student, dtype=torch.float64, requires_grad=True),
        torch.tensor(teacher, dtype=torch.float64) if teacher is not None else None,
        torch.tensor(labels if labels is not None else [0] * len(student)),
    )


def loss_of(name: str, data: Batch, **term: float) -> torch.Tensor:
    return LOSSES[name].function(data, Term(loss=name, **term))


def test_kd_by_hand() -> None:
    # teacher (ln 3, 0): p = (3/4, 1/4); student (0, 0): q = (1/2, 1/2); KL = 3/4 ln(3/2) + 1/4 ln(1/2)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert loss_of("kd", batch([[0, 0]], [[math.log(3), 0]])).item() == pytest.approx(expected, abs=1e-6)


def test_kd_with_temperature_by_hand() -> None:
    # at T = 2 the teacher's (2 ln 3, 0) softens to (ln 3, 0), and the loss is multiplied by T² = 4
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert loss_of("kd", batch([[0, 0]], [[2 * math.log(3), 0]]), temperature=2.0).item() == pytest.approx(expected, abs=1e-6)


def test_kd_is_the_mean_over_the_batch_not_over_classes() -> None:
    one = loss_of("kd", batch([[0, 0]], [[math.log(3), 0]]))
    two = loss_of("kd", batch([[0, 0], [0, 0]], [[math.log(3), 0], [0, 0]]))
    assert two.item() == pytest.approx(one.item() / 2, abs=1e-7)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_kd_of_equal_logits_is_zero_with_zero_gradient(temperature: float) -> None:
    data = batch([[1.0, -2.0, 0.5]], [[1.0, -2.0, 0.5]])
    loss = loss_of("kd", data, temperature=temperature)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert data.student.grad is not None
    assert data.student.grad.abs().max().item() < 1e-6


def test_kd_gradient_does_not_depend_on_temperature_to_first_order() -> None:
    """At high T the gradient tends to (student - teacher) / classes for centred logits (Hinton et al. 2015, eq. 4)."""
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 10, dtype=torch.float64), torch.randn(4, 10, dtype=torch.float64)
    limit = ((student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))) / 10 / 4
    for temperature in (50.0, 100.0):
        data = Batch(student.clone().requires_grad_(), teacher, torch.zeros(4, dtype=torch.int64))
        loss_of("kd", data, temperature=temperature).backward()
        assert data.student.grad is not None
        assert torch.allclose(data.student.grad, limit, rtol=0.1, atol=1e-3)


def test_without_the_factor_the_gradient_would_shrink() -> None:
    """Guards the test above: the same loss without T² has a gradient thousands of times smaller at T = 50."""
    data = batch([[3.0, 0.0]], [[0.0, 3.0]])
    bare = functional.kl_div(
        functional.log_softmax(data.student / 50, 1),
        functional.softmax(data.teacher / 50, 1),
        reduction="batchmean",  # type: ignore[operator]
    )
    assert bare.item() * 1000 < loss_of("kd", data, temperature=50.0).item()


def test_kd_gives_the_teacher_no_gradient_path() -> None:
    data = batch([[0.0, 1.0]], [[1.0, 0.0]])
    loss_of("kd", data).backward()
    assert data.teacher is not None
    assert data.teacher.grad is None


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if "features" not in loss.needs])
def test_losses_are_finite_in_bfloat16_and_for_extreme_logits(name: str) -> None:
    student = torch.tensor([[200.0, -200.0, 0.0]], dtype=torch.bfloat16, requires_grad=True)
    data = Batch(student, torch.tensor([[-200.0, 200.0, 0.0]], dtype=torch.bfloat16), torch.tensor([1]))
    loss = loss_of(name, data, temperature=4.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_cross_entropy_by_hand() -> None:
    assert loss_of("cross_entropy", batch([[math.log(3), 0]], labels=[1])).item() == pytest.approx(math.log(4), abs=1e-6)


def test_label_smoothing_by_hand() -> None:
    # half of the label's mass is spread over both classes: 3/4 on the label, 1/4 on the other
    value = loss_of("cross_entropy", batch([[math.log(3), 0]], labels=[0]), label_smoothing=0.5).item()
    assert value == pytest.approx(0.75 * math.log(4 / 3) + 0.25 * math.log(4), abs=1e-6)


def test_total_loss_weighs_and_names_the_terms() -> None:
    data = batch([[0, 0]], [[math.log(3), 0]], [1])
    terms = (Term(loss="kd", weight=0.5, temperature=2.0), Term(loss="cross_entropy", weight=3.0))
    total, named = total_loss(data, terms)
    assert set(named) == {"kd", "cross_entropy"}
    assert total.item() == pytest.approx(0.5 * named["kd"].item() + 3.0 * named["cross_entropy"].item(), rel=1e-6)


def test_a_term_of_weight_zero_is_not_computed() -> None:
    _, named = total_loss(batch([[0, 0]], None), (Term(loss="kd", weight=0.0), Term(loss="cross_entropy")))
    assert list(named) == ["cross_entropy"]


@pytest.mark.parametrize(
    ("term", "has_teacher", "message"),
    [
        ("cross_entrpy", True, "Did you mean 'cross_entropy'"),
        ("kd", False, "needs a teacher"),
    ],
)
def test_check_terms_refuses(term: str, has_teacher: bool, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check_terms((Term(loss=term),), has_teacher=has_teacher)


def test_check_terms_accepts_all_losses_with_a_teacher() -> None:
    layers = {"blocks": "layer1"}
    check_terms([Term(loss=name, layers=layers if "layers" in loss.reads else {}) for name, loss in LOSSES.items()], has_teacher=True)
