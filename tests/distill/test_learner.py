"""The student with its losses as one module: where gradients go, what is the student's, and what is refused."""

import functools
from collections.abc import Sequence

import pytest
import tiny_network
import torch
from torch import nn

from edgedistill import recipe
from edgedistill.distill import networks
from edgedistill.distill.learner import Learner, make_parts, shapes_of, student_layers, teacher_layers
from edgedistill.distill.loader import View, collate
from edgedistill.distill.losses.batch import Batch, Shapes
from edgedistill.distill.networks import Network
from edgedistill.distill.teachers.network import NetworkTeacher
from edgedistill.errors import RecipeError
from edgedistill.recipe import Term

CLASSES = ("bag", "coat", "shoe")
HINT = Term(loss="hint", layers={"2": "2"})
EXITS = Term(loss="exits", exits=("2",))
ALL = (Term(loss="kd"), HINT, Term(loss="attention", layers={"2": "2"}), Term(loss="similarity", layers={"3": "3"}), EXITS)
VIEWS = torch.randint(0, 256, (4, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def network(width: int) -> Network:
    return Network(tiny_network.make(3, width=width), "tiny", 16, recipe.HALF_MEAN, recipe.HALF_STD, CLASSES)


def teach(teacher: Network, terms: Sequence[Term]) -> Batch:
    """What the loop hands over: the answers of a real teacher."""
    views = collate([View(pixels.numpy(), 0, 0, 0, 0, 1.0) for pixels in VIEWS])
    answers = NetworkTeacher(teacher).answer(views, teacher_layers(terms))
    return Batch(torch.empty(0), answers.logits, torch.tensor([0, 1, 2, 0]), teacher_features=answers.features)


def make_learner(terms: Sequence[Term], *, compiled: bool = False) -> tuple[Learner, Batch, Network]:
    student, teacher = network(4), network(6)
    batch = teach(teacher, terms)
    teacher_shapes = {name: tuple(feature.shape[1:]) for name, feature in batch.teacher_features.items()}
    parts = make_parts(terms, Shapes(shapes_of(student, student_layers(terms)), teacher_shapes, 3))
    return Learner(student, terms, parts, compiled=compiled), batch, teacher


def test_forward_returns_the_loss_its_terms_and_the_logits() -> None:
    learner, batch, _ = make_learner(ALL)
    loss, named, logits = learner(VIEWS, batch, 0)
    assert list(named) == [term.loss for term in ALL]
    assert loss.item() == pytest.approx(sum(term.item() for term in named.values()), rel=1e-6)
    assert torch.allclose(logits, learner.student(learner.network.feed(VIEWS)), atol=1e-6)


def test_student_and_parts_get_gradients_and_the_teacher_none() -> None:
    learner, batch, teacher = make_learner(ALL)
    learner(VIEWS, batch, 0)[0].backward()
    without = [name for name, parameter in learner.named_parameters() if parameter.grad is None or parameter.grad.abs().max() == 0]
    assert without in ([], ["student.0.bias"])  # a bias in front of a batch norm has no effect
    assert list(learner.parts) == ["hint", "exits"]
    assert all(parameter.grad is None for parameter in teacher.module.parameters())


def test_parts_are_not_in_the_student() -> None:
    learner, _, _ = make_learner(ALL)
    assert list(learner.student.state_dict()) == list(tiny_network.make(3).state_dict())
    assert any(name.startswith("parts.hint") for name in learner.state_dict())


def test_terms_of_the_same_loss_have_parts_of_their_own() -> None:
    learner, batch, _ = make_learner([Term(loss="kd"), HINT, Term(loss="hint", layers={"0": "0"})])
    _, named, _ = learner(VIEWS, batch, 0)
    assert list(learner.parts) == ["hint-1", "hint-2"] == list(named)[1:]


def test_hints_before_logits_train_what_lies_below_the_hint_only() -> None:
    hints_first = [Term(loss="hint", layers={"2": "2"}, epochs=(0, 1)), Term(loss="kd", epochs=(1, 2))]
    learner, batch, _ = make_learner(hints_first)
    _, named, _ = learner(VIEWS, batch, 0)
    assert list(named) == ["hint"]
    learner(VIEWS, batch, 0)[0].backward()
    assert learner.student[6].weight.grad is None
    assert learner.student[0].weight.grad is not None
    learner(VIEWS, batch, 1)[0].backward()
    assert learner.student[6].weight.grad is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_are_computed_in_float32_where_the_student_is_in_half_precision(dtype: torch.dtype) -> None:
    learner, batch, _ = make_learner(ALL)
    whole, _, _ = learner(VIEWS, batch, 0)
    with torch.autocast("cpu", dtype=dtype):
        half, named, logits = learner(VIEWS, batch, 0)
        half.backward()
    assert logits.dtype is dtype
    assert {term.dtype for term in named.values()} == {torch.float32}
    assert half.item() == pytest.approx(whole.item(), rel=0.1)
    assert all(torch.isfinite(parameter.grad).all() for parameter in learner.parameters() if parameter.grad is not None)


def test_shapes_are_those_of_one_image_and_the_network_stays_as_it_was() -> None:
    student = network(4)
    student.module.train()
    before = student.module[1].running_mean.clone()
    assert shapes_of(student, ["0", "5", "6"]) == {"0": (4, 8, 8), "5": (64,), "6": (3,)}
    assert student.module.training
    assert torch.equal(student.module[1].running_mean, before)
    assert not student.module[0]._forward_hooks


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (Term(loss="attention", layers={"2": "5"}), r"'2' of shape \(4, 8, 8\) with the teacher's '5' of shape \(96,\)"),
        (Term(loss="hint", layers={"22": "2"}), "the student has no layer '22'. Did you mean '2'"),
        (Term(loss="hint", layers={"2": "first"}), "the teacher has no layer 'first'"),
        (Term(loss="exits", exits=("77",)), "the student has no layer '77'"),
    ],
)
def test_layers_that_cannot_be_used_are_refused_before_training(term: Term, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_learner([Term(loss="kd"), term])


def test_layers_that_terms_name_are_asked_for_once() -> None:
    terms = [
        Term(loss="hint", layers={"a": "x", "b": "y"}),
        Term(loss="attention", layers={"a": "y"}),
        Term(loss="exits", exits=("b", "c")),
    ]
    assert student_layers(terms) == ("a", "b", "c")
    assert teacher_layers(terms) == ("x", "y")


def test_features_of_a_timm_student() -> None:
    spec = recipe.Student(model="timm:mobilenetv3_small_050", input_size=28, strides=[1])
    shapes = shapes_of(networks.build(spec, CLASSES), ["blocks.1", "blocks.3", "flatten"])
    assert [len(shape) for shape in shapes.values()] == [3, 3, 1]


@pytest.mark.slow
def test_a_compiled_student_has_the_same_features_loss_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph is captured and run as it is: a C++ compiler would take a minute and change no name of it."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    learner, batch, _ = make_learner(ALL)
    compiled = Learner(learner.network, ALL, learner.parts, compiled=True)
    results = []
    for module in (learner, compiled):
        module.zero_grad()
        loss, _, _ = module(VIEWS, batch, 0)
        loss.backward()
        results.append((loss.item(), module.student[0].weight.grad.clone()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    assert torch.allclose(results[0][1], results[1][1], rtol=1e-3, atol=1e-5)
    assert isinstance(compiled.student, nn.Sequential)  # what is kept is not the compiled wrapper
