"""What holds for every loss, the sum of the terms, and the terms that are refused."""

from dataclasses import replace

import pytest
import torch
from made_batches import NEEDED, batch, full_batch, loss_of, parts_of

from edgedistill.distill.losses import LOSSES, check_terms, names_of, total_loss
from edgedistill.distill.losses.batch import UNLABELLED, Batch, upcast
from edgedistill.errors import RecipeError
from edgedistill.recipe import Term

SOFT = [name for name, loss in LOSSES.items() if "temperature" in loss.reads]
TAUGHT = [name for name, loss in LOSSES.items() if "teacher" in loss.needs]
STANDARD = [name for name, loss in LOSSES.items() if "standardize" in loss.reads]


def gradients(data: Batch) -> list[torch.Tensor]:
    leaves = [data.student, *data.student_features.values()]
    return [leaf.grad for leaf in leaves if leaf.grad is not None]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("dtype", "scale"), [(torch.bfloat16, 1.0), (torch.float16, 1.0), (torch.float32, 100.0), (torch.bfloat16, 100.0)])
def test_loss_and_gradient_are_finite_in_half_precision_and_for_extreme_values(name: str, dtype: torch.dtype, scale: float) -> None:
    data = full_batch(dtype=dtype, scale=scale)
    loss = loss_of(name, data, *parts_of(name))
    loss.backward()
    assert loss.dtype is torch.float32
    assert torch.isfinite(loss)
    assert gradients(data)
    assert all(torch.isfinite(gradient).all() for gradient in gradients(data))


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in NEEDED])
def test_logits_of_a_hundred_on_the_wrong_class_are_finite_and_costly(name: str) -> None:
    data = batch([[100.0, -100.0, 0.0]], [[-100.0, 100.0, 0.0]], [1])
    loss = loss_of(name, data)
    loss.backward()
    assert 1 < loss.item() < 1000
    assert data.student.grad is not None
    assert torch.isfinite(data.student.grad).all()
    # a correlation of rows that are 1 on one class has no slope left, everything else pulls the wrong class down
    assert data.student.grad[0, 0].item() > 0.5 or name == "dist"


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_a_labelled_image_and_one_of_a_single_image_are_finite(name: str) -> None:
    for images in (4, 1):
        data = full_batch(images)
        data = replace(data, labels=torch.full_like(data.labels, UNLABELLED))
        loss = loss_of(name, data, *parts_of(name))
        loss.backward()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(gradient).all() for gradient in gradients(data))


@pytest.mark.parametrize("name", TAUGHT)
def test_unlabelled_images_teach_what_the_teacher_says(name: str) -> None:
    data = full_batch()
    loss = loss_of(name, replace(data, labels=torch.full_like(data.labels, UNLABELLED)), *parts_of(name))
    loss.backward()
    assert any(gradient.abs().max() > 0 for gradient in gradients(data))


@pytest.mark.parametrize("name", LOSSES)
def test_equal_values_everywhere_give_no_nan(name: str) -> None:
    data = full_batch()
    flat = Batch(
        torch.zeros_like(data.student).requires_grad_(),
        torch.zeros(4, 3),
        data.labels,
        student_features={"low": torch.zeros(4, 2, 4, 4, requires_grad=True)},
        teacher_features={"deep": torch.zeros(4, 3, 2, 2)},
    )
    loss = loss_of(name, flat, *parts_of(name))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(gradient).all() for gradient in gradients(flat))


@pytest.mark.parametrize("name", TAUGHT)
def test_losses_stay_in_float64_and_do_not_change_the_batch(name: str) -> None:
    data = full_batch(dtype=torch.float64)
    before = data.student.detach().clone()
    assert loss_of(name, data, *[part.double() for part in parts_of(name)]).dtype is torch.float64
    assert torch.equal(data.student, before)


def test_only_half_precision_is_made_finer() -> None:
    wanted = {torch.bfloat16: torch.float32, torch.float16: torch.float32, torch.float32: torch.float32, torch.float64: torch.float64}
    for given, expected in wanted.items():
        assert upcast(torch.zeros(1, dtype=given)).dtype is expected


@pytest.mark.parametrize("name", STANDARD)
def test_z_scores_make_scale_and_shift_of_each_sample_s_logits_irrelevant(name: str) -> None:
    data = full_batch(dtype=torch.float64)
    assert data.teacher is not None
    scale, shift = torch.tensor([[2.0], [0.1], [5.0], [1.0]]), torch.tensor([[1.0], [-7.0], [0.0], [30.0]])
    other = replace(data, student=data.student * scale + shift, teacher=data.teacher * scale.flip(0) - shift)
    parts = [part.double() for part in parts_of(name)]
    with_scores = [loss_of(name, it, *parts, standardize=True).item() for it in (data, other)]
    without = [loss_of(name, it, *parts).item() for it in (data, other)]
    assert with_scores[0] == pytest.approx(with_scores[1], rel=1e-4)
    assert without[0] != pytest.approx(without[1], rel=0.01)


@pytest.mark.parametrize("name", SOFT)
def test_temperature_is_used_and_is_one_by_default(name: str) -> None:
    data, parts = full_batch(dtype=torch.float64), [part.double() for part in parts_of(name)]
    default, one, four = (loss_of(name, data, *parts, **keys).item() for keys in ({}, {"temperature": 1.0}, {"temperature": 4.0}))
    assert default == one
    assert default != pytest.approx(four, rel=1e-3)


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, loss in LOSSES.items() for key in ("alpha", "beta") if key in loss.reads])
def test_inner_weights_are_linear_and_zero_is_zero(name: str, key: str) -> None:
    data, parts = full_batch(dtype=torch.float64), [part.double() for part in parts_of(name)]
    zero, one, three = (loss_of(name, data, *parts, **{key: value}).item() for value in (0.0, 1.0, 3.0))
    assert three - zero == pytest.approx(3 * (one - zero), rel=1e-9)
    assert one > zero


def test_total_loss_weighs_and_names_the_terms() -> None:
    data = batch([[0, 0]], [[1, 0]], [1])
    terms = (Term(loss="kd", weight=0.5, temperature=2.0), Term(loss="cross_entropy", weight=3.0))
    total, named = total_loss(data, terms)
    assert set(named) == {"kd", "cross_entropy"}
    assert total.item() == pytest.approx(0.5 * named["kd"].item() + 3.0 * named["cross_entropy"].item(), rel=1e-6)


def test_a_term_of_weight_zero_is_not_computed() -> None:
    _, named = total_loss(batch([[0, 0]], None), (Term(loss="kd", weight=0.0), Term(loss="cross_entropy")))
    assert list(named) == ["cross_entropy"]


def test_terms_count_in_their_epochs() -> None:
    terms = (Term(loss="kd", epochs=(0, 2)), Term(loss="kd", temperature=4.0, epochs=(2, 9)), Term(loss="cross_entropy"))
    assert names_of(terms) == ("kd-1", "kd-2", "cross_entropy")
    counted = [list(total_loss(batch([[0, 1]], [[1, 0]]), terms, epoch=epoch)[1]) for epoch in (0, 1, 2, 8)]
    assert counted == [["kd-1", "cross_entropy"]] * 2 + [["kd-2", "cross_entropy"]] * 2


@pytest.mark.parametrize(
    ("terms", "has_teacher", "message"),
    [
        ([Term(loss="cross_entrpy")], True, "Did you mean 'cross_entropy'"),
        ([Term(loss="kd")], False, "'kd' needs a teacher; add a"),
        ([Term(loss="hint", layers={"a": "b"})], False, "'hint' needs a teacher"),
        ([Term(loss="kd", alpha=1.0)], True, "'kd' does not use alpha; it uses standardize, temperature"),
        (
            [Term(loss="cross_entropy", temperature=4.0, standardize=True)],
            True,
            "does not use standardize, temperature; it uses label_smoothing",
        ),
        ([Term(loss="hint", layers={"a": "b"}, beta=1.0)], True, "does not use beta"),
        ([Term(loss="hard_label", temperature=4.0)], True, "does not use temperature"),
        ([Term(loss="attention")], True, "'attention' needs layers; name layers"),
        ([Term(loss="exits")], True, "'exits' needs exits; name layers"),
        ([Term(loss="kd", layers={"a": "b"})], True, "does not use layers"),
        ([Term(loss="hint", layers={"a": "b"}), Term(loss="kd", weight=0.0)], True, "no term trains the student's last layer"),
        ([Term(loss="exits", exits=("a",))], False, "no term trains the student's last layer"),
    ],
)
def test_check_terms_refuses(terms: list[Term], has_teacher: bool, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check_terms(terms, has_teacher=has_teacher)


def test_check_terms_accepts_all_losses_with_a_teacher_and_exits_without() -> None:
    check_terms([Term(loss=name, **NEEDED.get(name, {})) for name in LOSSES], has_teacher=True)  # type: ignore[arg-type]
    check_terms([Term(loss="cross_entropy"), Term(loss="exits", exits=("low",))], has_teacher=False)
