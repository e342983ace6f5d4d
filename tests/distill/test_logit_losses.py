"""Losses on logits against values computed by hand, and the identities that the papers state."""

import math
from dataclasses import replace

import pytest
import torch
from made_batches import batch, full_batch, loss_of
from torch.nn import functional

from edgedistill.distill.losses import dkd
from edgedistill.distill.losses.batch import UNLABELLED, Batch
from edgedistill.distill.losses.dist import distance
from edgedistill.distill.losses.logits import z_scores

LN2, LN3 = math.log(2), math.log(3)


def test_kd_by_hand() -> None:
    # teacher (ln 3, 0): p = (3/4, 1/4); student (0, 0): q = (1/2, 1/2); KL = 3/4 ln(3/2) + 1/4 ln(1/2)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert loss_of("kd", batch([[0, 0]], [[LN3, 0]])).item() == pytest.approx(expected, abs=1e-12)


def test_kd_with_temperature_by_hand() -> None:
    # at T = 2 the teacher's (2 ln 3, 0) softens to (ln 3, 0), and the loss is multiplied by T² = 4
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert loss_of("kd", batch([[0, 0]], [[2 * LN3, 0]]), temperature=2.0).item() == pytest.approx(expected, abs=1e-12)


def test_kd_is_the_mean_over_the_batch_not_over_classes() -> None:
    one = loss_of("kd", batch([[0, 0]], [[LN3, 0]]))
    two = loss_of("kd", batch([[0, 0], [0, 0]], [[LN3, 0], [0, 0]]))
    assert two.item() == pytest.approx(one.item() / 2, abs=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
@pytest.mark.parametrize("name", ["kd", "dkd", "dist"])
def test_equal_logits_have_no_loss_and_no_gradient(name: str, temperature: float) -> None:
    logits = [[1.0, -2.0, 0.5], [3.0, 3.0, 3.0], [-80.0, 80.0, 1.0]]
    data = batch(logits, logits)
    loss = loss_of(name, data, temperature=temperature)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-9)
    assert data.student.grad is not None
    assert data.student.grad.abs().max().item() < 1e-9


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


def test_kd_at_a_high_temperature_is_regression_of_centred_logits() -> None:
    """T² · KL tends to half of the mean squared difference of centred logits (Hinton et al. 2015, section 2.1)."""
    data = full_batch(dtype=torch.float64)
    assert data.teacher is not None
    centred = [logits - logits.mean(dim=1, keepdim=True) for logits in (data.student, data.teacher)]
    limit = (centred[0] - centred[1]).square().mean().item() / 2
    assert loss_of("kd", data, temperature=1e4).item() == pytest.approx(limit, rel=1e-3)
    assert loss_of("kd", data, temperature=1.0).item() != pytest.approx(limit, rel=0.02)


def test_cross_entropy_by_hand() -> None:
    assert loss_of("cross_entropy", batch([[LN3, 0]], labels=[1])).item() == pytest.approx(math.log(4), abs=1e-12)


def test_label_smoothing_by_hand() -> None:
    # half of the label's mass is spread over both classes: 3/4 on the label, 1/4 on the other
    for name, teacher in (("cross_entropy", None), ("hard_label", [[1.0, 0.0]])):
        value = loss_of(name, batch([[LN3, 0]], teacher, labels=[0]), label_smoothing=0.5).item()
        assert value == pytest.approx(0.75 * math.log(4 / 3) + 0.25 * math.log(4), abs=1e-12)


def test_cross_entropy_is_the_mean_over_labelled_images() -> None:
    data = batch([[LN3, 0], [0, 0], [5, 1]], labels=[1, UNLABELLED, UNLABELLED])
    loss = loss_of("cross_entropy", data)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(4), abs=1e-12)
    assert data.student.grad is not None
    assert data.student.grad[1:].abs().max().item() == 0


def test_cross_entropy_of_a_mixed_view_counts_both_labels_by_their_shares() -> None:
    mixed = replace(batch([[LN3, 0]], labels=[0]), other_labels=torch.tensor([1]), share=torch.tensor([0.75]))
    expected = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    assert loss_of("cross_entropy", mixed).item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("label", [0, 1, UNLABELLED])
def test_hard_label_takes_the_teacher_s_decision_whatever_the_label(label: int) -> None:
    assert loss_of("hard_label", batch([[LN3, 0]], [[-1, 2]], [label])).item() == pytest.approx(math.log(4), abs=1e-12)


def test_hard_label_ignores_how_sure_the_teacher_is_and_the_labels_of_a_mixed_view() -> None:
    unsure, sure = batch([[LN3, 0]], [[0, 0.1]]), batch([[LN3, 0]], [[-50, 50]])
    mixed = replace(sure, other_labels=torch.tensor([0]), share=torch.tensor([0.9]))
    assert len({loss_of("hard_label", data).item() for data in (unsure, sure, mixed)}) == 1


# teacher (ln 2, 0, 0): p = (1/2, 1/4, 1/4); student (0, 0, 0); the target is class 1:
# target and others: (1/4, 3/4) against (1/3, 2/3); among the others: (2/3, 1/3) against (1/2, 1/2)
TCKD = 0.25 * math.log(3 / 4) + 0.75 * math.log(9 / 8)
NCKD = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, TCKD + 2 * NCKD),
        ({"alpha": 1.0, "beta": 0.0}, TCKD),
        ({"alpha": 0.0, "beta": 1.0}, NCKD),
        ({"alpha": 3.0, "beta": 8.0}, 3 * TCKD + 8 * NCKD),
    ],
)
def test_dkd_by_hand(keys: dict[str, float], expected: float) -> None:
    assert loss_of("dkd", batch([[0, 0, 0]], [[LN2, 0, 0]], [1]), **keys).item() == pytest.approx(expected, abs=1e-12)


def test_dkd_with_temperature_by_hand() -> None:
    value = loss_of("dkd", batch([[0, 0, 0]], [[2 * LN2, 0, 0]], [1]), temperature=2.0).item()
    assert value == pytest.approx(4 * (TCKD + 2 * NCKD), abs=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dkd_with_beta_one_minus_the_target_s_probability_is_kd(temperature: float) -> None:
    """Eq. 6 of the paper, a sample at a time, because beta differs from sample to sample."""
    data = full_batch(6, dtype=torch.float64, scale=3.0)
    assert data.teacher is not None
    for i, label in enumerate(data.labels):
        one = Batch(data.student[i : i + 1], data.teacher[i : i + 1], data.labels[i : i + 1])
        others = 1 - functional.softmax(one.teacher / temperature, dim=1)[0, label].item()  # type: ignore[operator]
        coupled = loss_of("kd", one, temperature=temperature).item()
        assert loss_of("dkd", one, alpha=1.0, beta=others, temperature=temperature).item() == pytest.approx(coupled, abs=1e-9)


def test_dkd_does_not_underflow_where_a_probability_does() -> None:
    """At logits of ±100 the others' probability is e⁻²⁰⁰; a logarithm of its float32 would be minus infinity."""
    sure = torch.tensor([[100.0, -100.0, -101.0]])
    assert functional.softmax(sure, dim=1)[0, 1:].sum().item() == 0
    data = Batch(sure.requires_grad_(), torch.tensor([[0.0, 0.0, LN3]]), torch.tensor([0]))
    # target and others: (1/5, 4/5) against (1, e⁻²⁰⁰ (1 + 1/e)); among the others: (1/4, 3/4) against (e, 1) / (e + 1)
    target = 0.2 * math.log(0.2) + 0.8 * (math.log(0.8) + 200 - math.log(1 + math.exp(-1)))
    others = 0.25 * math.log(0.25 * (math.e + 1) / math.e) + 0.75 * math.log(0.75 * (math.e + 1))
    assert loss_of("dkd", data, alpha=1.0, beta=0.0).item() == pytest.approx(target, rel=1e-6)
    assert loss_of("dkd", data, alpha=0.0, beta=1.0).item() == pytest.approx(others, rel=1e-6)


@pytest.mark.parametrize(
    ("labels", "other", "share", "expected"),
    [
        ([1], None, None, 1),
        ([UNLABELLED], None, None, 2),
        ([0], [1], [0.75], 0),
        ([0], [1], [0.25], 1),
        ([0], [UNLABELLED], [0.25], 2),
        ([UNLABELLED], [1], [0.25], 1),
    ],
)
def test_targets_of_dkd(labels: list[int], other: list[int] | None, share: list[float] | None, expected: int) -> None:
    """A label, the label of the larger share, or what the teacher decides: class 2."""
    data = batch([[0, 0, 0]], [[0, 1, 5]], labels)
    if other is not None and share is not None:
        data = replace(data, other_labels=torch.tensor(other), share=torch.tensor(share))
    assert dkd.targets(data).tolist() == [expected]


def test_dkd_of_two_classes_has_no_others_to_compare() -> None:
    data = batch([[0.0, 1.0]], [[2.0, 0.0]])
    assert loss_of("dkd", data, beta=1000.0).item() == pytest.approx(loss_of("kd", data).item(), abs=1e-12)


def test_dist_between_classes_by_hand() -> None:
    # (1/2, 1/4, 1/4) and (1/4, 1/2, 1/4), centred: (2, -1, -1) and (-1, 2, -1) over 12: correlation -3/6
    data = batch([[LN2, 0, 0]], [[0, LN2, 0]])
    assert loss_of("dist", data).item() == pytest.approx(1.5, abs=1e-12)  # one sample has no relation to others
    assert loss_of("dist", data, alpha=3.0).item() == pytest.approx(4.5, abs=1e-12)


def test_dist_between_samples_by_hand() -> None:
    # p of class 0 is (1/2, 1/4, 1/4) over the samples for the student, (1/4, 1/2, 1/4) for the teacher: correlation -1/2, class 1 too
    student, teacher = [[0, 0], [0, LN3], [0, LN3]], [[0, LN3], [0, 0], [0, LN3]]
    assert loss_of("dist", batch(student, teacher), alpha=0.0, beta=2.0).item() == pytest.approx(3.0, abs=1e-12)


def test_dist_at_a_temperature_is_that_of_softer_logits_without_a_factor() -> None:
    hot = loss_of("dist", batch([[4 * LN2, 0, 0]], [[0, 4 * LN2, 0]]), temperature=4.0)
    assert hot.item() == pytest.approx(1.5, abs=1e-12)


def test_correlations_do_not_see_scale_and_shift() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(3, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    assert distance(student, teacher).item() == pytest.approx(distance(5 * student + 1, 0.1 * teacher - 2).item(), abs=1e-12)
    assert distance(student, 3 * student + 1).item() == pytest.approx(0, abs=1e-12)
    assert distance(student, -student).item() == pytest.approx(2, abs=1e-12)


def test_dist_learns_nothing_from_a_teacher_that_says_nothing_and_punishes_such_a_student() -> None:
    assert loss_of("dist", batch([[2.0, 0.0, 1.0]], [[1.0, 1.0, 1.0]])).item() == 0
    silent = batch([[1.0, 1.0, 1.0]], [[2.0, 0.0, 1.0]])
    loss = loss_of("dist", silent)
    loss.backward()
    assert loss.item() == pytest.approx(1.0, abs=1e-9)
    assert silent.student.grad is not None
    assert silent.student.grad[0, 0] < 0 < silent.student.grad[0, 1]  # towards the teacher


def test_z_scores_by_hand() -> None:
    # (1, 3): mean 2, deviation 1
    assert torch.allclose(z_scores(torch.tensor([[1.0, 3.0], [5.0, 5.0]])), torch.tensor([[-1.0, 1.0], [0.0, 0.0]]), atol=1e-6)


def test_kd_of_z_scores_by_hand() -> None:
    # both sides have the z-scores (±1, ∓1), whatever their scale: student p = (e, 1/e) / (e + 1/e), teacher the other way round
    value = loss_of("kd", batch([[30, 10]], [[0, 0.5]]), standardize=True).item()
    assert value == pytest.approx(2 * (math.e - 1 / math.e) / (math.e + 1 / math.e), abs=1e-5)
