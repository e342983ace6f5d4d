"""Losses on features against values computed by hand, and the shapes that they can and cannot use."""

import math

import pytest
import torch
from made_batches import batch, features, full_batch, loss_of
from torch import nn

from edgedistill.distill.losses import LOSSES
from edgedistill.distill.losses.attention import unit
from edgedistill.distill.losses.batch import UNLABELLED, Batch, Shapes
from edgedistill.distill.losses.features import as_map, check_maps, check_positions, map_shape, same_size
from edgedistill.distill.losses.similarity import similarities
from edgedistill.errors import RecipeError
from edgedistill.recipe import Term


def tensor(*values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def regressors(weight: float, bias: float) -> nn.ModuleList:
    layer = nn.Conv2d(1, 1, 1).double()
    nn.init.constant_(layer.weight, weight)
    nn.init.constant_(layer.bias, bias)  # type: ignore[arg-type]
    return nn.ModuleList([layer])


def test_hint_by_hand() -> None:
    # predicted: 2 · (1, 2, 3, 4) + 1 = (3, 5, 7, 9), wanted (3, 5, 7, 5): mean of (0, 0, 0, 16)
    data = features(tensor([[[1, 2], [3, 4]]]), tensor([[[3, 5], [7, 5]]]))
    assert loss_of("hint", data, regressors(2, 1)).item() == pytest.approx(4.0, abs=1e-12)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        (tensor([[[1, 2], [3, 4]]]), tensor([[[5]]])),  # the student's map is larger: its mean is 2.5
        (tensor([[[2.5]]]), tensor([[[4, 6], [5, 5]]])),  # the teacher's map is larger: its mean is 5
        (tensor([2.5]), tensor([5])),  # vectors
        (tensor([2.5]), tensor([[[4, 6], [5, 5]]])),  # a vector and a map
    ],
)
def test_hint_of_unequal_sizes_by_hand(student: torch.Tensor, teacher: torch.Tensor) -> None:
    assert loss_of("hint", features(student, teacher), regressors(2, 1)).item() == pytest.approx(1.0, abs=1e-12)  # 6 for 5


def test_hint_of_equal_features_is_zero_with_an_identity_as_regressor() -> None:
    same = torch.randn(4, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert loss_of("hint", features(same, same.clone()), regressors(1, 0)).item() == 0
    assert loss_of("hint", features(same, same + 1), regressors(1, 0)).item() == pytest.approx(1.0, abs=1e-9)


def test_several_pairs_of_layers_are_added_up_each_with_its_own_part() -> None:
    data = Batch(
        torch.zeros(1, 2), None, torch.zeros(1), student_features={"a": tensor([1]), "b": tensor([2])}, teacher_features={"c": tensor([4])}
    )
    both = nn.ModuleList([*regressors(1, 0), *regressors(2, 0)])  # 1 for 4: 9, and 2 · 2 for 4: 0
    assert loss_of("hint", data, both, layers={"a": "c", "b": "c"}).item() == pytest.approx(9.0, abs=1e-12)


def test_hint_makes_a_regressor_a_pair_from_the_student_s_channels_to_the_teacher_s() -> None:
    term = Term(loss="hint", layers={"a": "x", "b": "y", "c": "z"})
    shapes = Shapes({"a": (4, 8, 8), "b": (16,), "c": (50, 12)}, {"x": (32, 4, 4), "y": (64,), "z": (197, 384)}, 10)
    build = LOSSES["hint"].part
    assert build is not None
    assert [tuple(layer.weight.shape) for layer in build(term, shapes)] == [(32, 4, 1, 1), (64, 16, 1, 1), (384, 12, 1, 1)]  # type: ignore[attr-defined]


def test_attention_by_hand() -> None:
    # student: channels (1, 0) and (1, 2): means of squares (1, 2); teacher: one channel (2, 1): (4, 1)
    data = features(tensor([[[1, 0]], [[1, 2]]]), tensor([[[2, 1]]]))
    distance = (1 / math.sqrt(5) - 4 / math.sqrt(17)) ** 2 + (2 / math.sqrt(5) - 1 / math.sqrt(17)) ** 2
    assert loss_of("attention", data, beta=1.0).item() == pytest.approx(distance / 2, abs=1e-12)
    assert loss_of("attention", data).item() == pytest.approx(500 * distance, abs=1e-9)


def test_attention_of_unequal_sizes_by_hand() -> None:
    # the student's squares (1, 3; 5, 3 | 0, 2; 4, 2) fall together to (3, 2)
    squares = tensor([[[1, 3, 0, 2], [5, 3, 4, 2]]])
    data = features(squares.sqrt(), tensor([[[2, 1]]]))
    distance = (3 / math.sqrt(13) - 4 / math.sqrt(17)) ** 2 + (2 / math.sqrt(13) - 1 / math.sqrt(17)) ** 2
    assert loss_of("attention", data, beta=2.0).item() == pytest.approx(distance, abs=1e-12)


def test_attention_of_equal_maps_is_zero_whatever_channels_and_scale() -> None:
    one = torch.randn(4, 3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    more = torch.cat([one, one.flip(1)], dim=1).detach()
    loss = loss_of("attention", features(one, -7 * more))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-20)
    assert one.grad is not None
    assert one.grad.abs().max().item() < 1e-9
    assert loss_of("attention", features(one, more.roll(1, dims=3))).item() > 1


def test_attention_maps_have_length_one_and_a_dead_one_has_none() -> None:
    maps = torch.stack([torch.rand(1, 3, 3), torch.zeros(1, 3, 3)])
    assert unit(maps).norm(dim=1).tolist() == pytest.approx([1.0, 0.0])


def test_similarity_by_hand() -> None:
    # student (1, 0) and (1, 1): products (1, 1; 1, 2); teacher 1 and 0: products (1, 0; 0, 0)
    data = features(tensor([1, 0], [1, 1]), tensor([1], [0]))
    differences = (1 / math.sqrt(2) - 1) ** 2 + 1 / 2 + 1 / 5 + 4 / 5
    assert loss_of("similarity", data, beta=1.0).item() == pytest.approx(differences / 4, abs=1e-12)
    assert loss_of("similarity", data).item() == pytest.approx(750 * differences, abs=1e-9)


def test_similarity_of_equal_features_is_zero_also_turned_and_of_another_layout() -> None:
    one = torch.randn(5, 6, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    turn = torch.linalg.qr(torch.randn(24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))).Q
    other = 3 * one.flatten(1) @ turn  # products of turned features are the same
    assert loss_of("similarity", features(one, other)).item() == pytest.approx(0, abs=1e-20)
    assert loss_of("similarity", features(one, other.flip(0))).item() > 1


def test_rows_of_similarities_have_length_one() -> None:
    assert similarities(torch.randn(4, 3, 2, 2)).norm(dim=1).tolist() == pytest.approx([1.0] * 4, rel=1e-6)


def exit_head(bias: list[float]) -> nn.ModuleList:
    """An exit that answers the same on every image."""
    head = nn.Linear(2, 2).double()
    nn.init.zeros_(head.weight)
    head.bias.data = torch.tensor(bias, dtype=torch.float64)
    return nn.ModuleList([head])


def exiting(last: list[list[float]], labels: list[int]) -> Batch:
    answers = batch(last, None, labels)
    return Batch(answers.student, None, answers.labels, student_features={"low": torch.ones(len(last), 2, 3, 3, dtype=torch.float64)})


@pytest.mark.parametrize(("labels", "labelled"), [([1], math.log(4)), ([UNLABELLED], 0.0)])
def test_exits_by_hand(labels: list[int], labelled: float) -> None:
    # the exit says (3/4, 1/4), the last layer (1/2, 1/2)
    followed = 0.5 * math.log(2 / 3) + 0.5 * math.log(2)
    data, head = exiting([[0, 0]], labels), exit_head([math.log(3), 0])
    assert loss_of("exits", data, head).item() == pytest.approx(0.5 * labelled + 0.5 * followed, abs=1e-12)
    assert loss_of("exits", data, head, alpha=3.0, beta=8.0).item() == pytest.approx(3 * labelled + 8 * followed, abs=1e-12)


def test_exits_teach_the_layers_below_and_not_the_last_one() -> None:
    data = exiting([[1.0, 0.0]], [1])
    data.student_features["low"].requires_grad_()
    loss_of("exits", data, nn.ModuleList([nn.Linear(2, 2).double()])).backward()
    assert data.student.grad is None
    gradient = data.student_features["low"].grad
    assert gradient is not None
    assert gradient.abs().max() > 0


def test_an_exit_averages_over_positions_and_is_a_linear_classifier() -> None:
    build = LOSSES["exits"].part
    assert build is not None
    heads = build(Term(loss="exits", exits=("a", "b")), Shapes({"a": (16, 8, 8), "b": (197, 24)}, {}, 10))
    assert [tuple(head.weight.shape) for head in heads] == [(10, 16), (10, 24)]  # type: ignore[attr-defined]


def test_tokens_are_laid_out_without_the_ones_in_front() -> None:
    tokens = torch.arange(6.0)[None, :, None] * torch.ones(2, 6, 3)  # two tokens in front of a square of four
    assert as_map(tokens)[1, 2].tolist() == [[2.0, 3.0], [4.0, 5.0]]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((8,), (8, 1, 1)),
        ((8, 4, 5), (8, 4, 5)),
        ((16, 8), (8, 4, 4)),
        ((197, 384), (384, 14, 14)),  # a class token
        ((261, 384), (384, 16, 16)),  # a class token and four registers
    ],
)
def test_shapes_that_are_maps(shape: tuple[int, ...], expected: tuple[int, int, int]) -> None:
    assert map_shape(shape) == expected
    assert tuple(as_map(torch.zeros(2, *shape)).shape) == (2, *expected)


@pytest.mark.parametrize("shape", [(), (3, 8), (22, 8), (2, 3, 4, 5)])
def test_shapes_that_are_no_maps(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="is no map"):
        map_shape(shape)


def test_sizes_are_matched_side_by_side() -> None:
    sizes = [tuple(maps.shape[2:]) for maps in same_size(torch.zeros(1, 2, 4, 6), torch.zeros(1, 3, 8, 3))]
    assert sizes == [(4, 3), (4, 3)]


@pytest.mark.parametrize(
    ("name", "student", "teacher", "takes"),
    [
        ("hint", (8, 4, 4), (22, 8), r"tokens \(T, C\) of a square"),
        ("hint", (2, 3, 4, 5), (8,), r"\(C, H, W\)"),
        ("attention", (8,), (8, 4, 4), "more than one position"),
        ("attention", (8, 4, 4), (8, 1, 1), "more than one position"),
        ("attention", (8, 4, 4), (3, 8), "tokens"),
    ],
)
def test_shapes_that_a_loss_cannot_use_are_both_shown(name: str, student: tuple[int, ...], teacher: tuple[int, ...], takes: str) -> None:
    check = LOSSES[name].check
    assert check is not None
    with pytest.raises(RecipeError, match=takes) as caught:
        check(Term(loss=name, layers={"low": "deep"}), Shapes({"low": student}, {"deep": teacher}, 10))
    assert f"'low' of shape {student} with the teacher's 'deep' of shape {teacher}" in str(caught.value)
    assert repr(name) in str(caught.value)


def test_an_exit_of_a_layer_that_is_no_map_is_refused() -> None:
    build = LOSSES["exits"].part
    assert build is not None
    with pytest.raises(RecipeError, match=r"'exits' cannot use the student's 'low' of shape \(3, 8\)"):
        build(Term(loss="exits", exits=("low",)), Shapes({"low": (3, 8)}, {}, 10))


def test_shapes_that_fit_pass() -> None:
    term = Term(loss="attention", layers={"low": "deep"})
    check_positions(term, Shapes({"low": (8, 4, 4)}, {"deep": (50, 16)}, 10))
    check_maps(term, Shapes({"low": (8,)}, {"deep": (16, 4, 4)}, 10))


def test_features_in_half_precision_are_summed_in_float32() -> None:
    data = full_batch(dtype=torch.float16, scale=100.0)  # squares of 300 overflow in float16
    assert torch.isfinite(loss_of("attention", data))
    assert torch.isfinite(loss_of("similarity", data))
