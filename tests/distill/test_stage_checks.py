"""What is checked of all stages before the first is trained."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgedistill.distill import schedules
from edgedistill.distill.stage_checks import check_networks
from edgedistill.errors import EdgeDistillError, ModelError, RecipeError
from edgedistill.recipe import BornAgain, Recipe, Recursive, Student, Teacher, Term

TINY = "python:tiny_network:make"
KD = Term(loss="kd")
HINT = Term(loss="hint", layers={"2": "2"})
WIDE = Student(model=TINY, args={"width": 8}, input_size=16)


def checked(wanted: Recipe, **tables: Any) -> list[str]:
    """Check the stages of a recipe with other tables, and return what was said."""
    changed = msgspec.structs.replace(wanted, **tables)
    said: list[str] = []
    stages = schedules.expand(changed, Path("run"))
    check_networks([(stage.name, stage.recipe) for stage in stages], changed.schedule, said.append)
    return said


def test_generations_say_nothing_of_sizes_which_are_all_the_same(tiny_recipe: Recipe) -> None:
    assert checked(tiny_recipe, schedule=BornAgain(), distill=(KD, HINT)) == []


@pytest.mark.parametrize(
    ("widths", "descends"),
    [((16, 8), True), ((8, 16), False), ((8, 8), False), ((8, 4), False)],
    ids=["descending", "upside down", "two of a size", "an assistant as small as the student"],
)
def test_sizes_are_said_and_when_they_do_not_descend(tiny_recipe: Recipe, widths: tuple[int, int], descends: bool) -> None:
    assistants = tuple(Student(model=TINY, args={"width": width}, input_size=16) for width in widths)
    teacher = Teacher(model=TINY, args={"width": 32}, weights="not-there-yet.safetensors")
    said = checked(tiny_recipe, schedule=Recursive(assistants=assistants), distill=(KD,), teacher=teacher)
    assert len(said) == 1
    assert said[0].startswith(f"parameters: teacher {TINY} 0.01 M, assistant-1 {TINY} ")
    assert said[0].endswith("its teacher and its student") is not descends


@pytest.mark.parametrize(
    ("teacher", "first"),
    [(None, "assistant-1"), (Teacher(model="onnx:teacher.onnx"), "assistant-1"), (Teacher(model=TINY), "teacher")],
)
def test_the_chain_begins_with_a_teacher_whose_size_is_known(tiny_recipe: Recipe, teacher: Teacher | None, first: str) -> None:
    (said,) = checked(tiny_recipe, schedule=Recursive(assistants=(WIDE,)), distill=(KD,), teacher=teacher)
    assert said.startswith(f"parameters: {first} ")


LAYERS_OF_ANOTHER = Term(loss="hint", layers={"2": "layer4"})


@pytest.mark.parametrize(
    ("tables", "error", "message"),
    [
        (
            {"schedule": BornAgain(), "distill": (KD, LAYERS_OF_ANOTHER), "teacher": Teacher(model="timm:resnet10t")},
            RecipeError,
            "the teacher of generation-2, python:tiny_network:make, has no layer 'layer4'",
        ),
        (
            {"schedule": BornAgain(), "distill": (KD, Term(loss="hint", layers={"9": "2"}))},
            RecipeError,
            "the student of generation-2, .* '9'",
        ),
        (
            {"schedule": Recursive(assistants=(Student(model="timm:resnet10t"),)), "distill": (KD, HINT), "teacher": Teacher(model=TINY)},
            RecipeError,
            "the student of assistant-1, timm:resnet10t, has no layer '2'",
        ),
        (
            {"schedule": Recursive(assistants=(Student(model="timm:resnet10"),)), "distill": (KD,)},
            ModelError,
            "timm has no network 'resnet10'.* Did you mean",
        ),
        (
            {"schedule": Recursive(assistants=(WIDE,)), "distill": (KD,), "teacher": Teacher(model="ema")},
            RecipeError,
            "schedule recursive: teacher.model 'ema' is the student itself",
        ),
        (
            {
                "schedule": Recursive(assistants=(WIDE,), epochs=5),
                "distill": (Term(loss="kd", epochs=(0, 2)),),
                "teacher": Teacher(model=TINY),
            },
            RecipeError,
            "assistant-1 cannot be trained for 5 epochs: distill has no term .* in epoch 2",
        ),
    ],
    ids=["layer of the teacher", "layer of the student", "layer of an assistant", "unknown assistant", "ema", "epochs"],
)
def test_what_does_not_fit_is_an_error_before_any_training(
    tiny_recipe: Recipe, tables: dict[str, Any], error: type[EdgeDistillError], message: str
) -> None:
    with pytest.raises(error, match=message):
        checked(tiny_recipe, **tables)
