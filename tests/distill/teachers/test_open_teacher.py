"""Opening teachers: class orders, mappings, heads, ensembles, and what is refused before a training begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made
import msgspec
import pytest
import torch

from edgedistill import recipe
from edgedistill.distill import networks
from edgedistill.distill.loader import ViewBatch
from edgedistill.distill.teachers import Teacher, open_teacher, sha256_of_teachers
from edgedistill.errors import EdgeDistillError, ModelError, RecipeError
from edgedistill.recipe import Recipe

MODEL = "python:tiny_network:make"


def opened(wanted: Recipe) -> Teacher:
    teacher = open_teacher(wanted, made.splits())
    assert teacher is not None
    return teacher


def logits(teacher: Teacher, batch: ViewBatch) -> torch.Tensor:
    return teacher.answer(batch).logits


@pytest.fixture
def weights_file(tmp_path: Path) -> str:
    return str(made.save(made.network(), tmp_path / "teacher.safetensors"))


def test_a_network_answers_as_torch_does_and_gives_its_layers(weights_file: str) -> None:
    teacher, batch = opened(made.recipe_of({"model": MODEL, "weights": weights_file})), made.views()
    answers = teacher.answer(batch, ["2"])
    assert torch.equal(answers.logits, made.answers_of(made.network(), batch))
    assert answers.features["2"].shape == (5, 4, 8, 8)
    assert not answers.logits.requires_grad


def test_views_of_another_size_are_resized_by_the_teacher(weights_file: str) -> None:
    teacher, batch = opened(made.recipe_of({"model": MODEL, "weights": weights_file})), made.views(side=28)
    assert torch.equal(logits(teacher, batch), made.answers_of(made.network(), batch))


def test_there_is_no_teacher_without_a_table() -> None:
    assert open_teacher(made.recipe_of(teacher=None, distill=[{"loss": "cross_entropy"}]), made.splits()) is None


def save_as(folder: Path, classes: tuple[str, ...], *, card: bool = True) -> str:
    built = made.network(classes=classes)
    return str(made.save(built, folder / "other.safetensors", classes=classes if card else None))


@pytest.mark.parametrize(
    ("classes", "keys", "message"),
    [
        (("red", "green", "blue"), {}, r"another order:\n +teacher +data\n +0 +red +blue +<\n +1 +green +green\n +2 +blue +red +<\nSay"),
        (("blue", "green", "pink"), {}, r"other classes than the data:\n(.*\n)+ +2 +pink +red +<\nSay .* teacher\.mapping"),
        (("blue", "green"), {}, r"2 classes, the data has 3:\n(.*\n)+ +2 +- +red +<"),
        (("blue", "green", "pink"), {"classes": ["a", "b", "c"]}, r"recipe +file\n +0 +a +blue +<\n(.*\n)+.*take teacher\.classes out"),
    ],
)
def test_other_classes_are_shown_line_by_line(tmp_path: Path, classes: tuple[str, ...], keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        opened(made.recipe_of({"model": MODEL, "weights": save_as(tmp_path, classes), **keys}))


@pytest.mark.parametrize("count", [2, 5])
def test_another_number_of_outputs_is_an_error_with_both_counts(tmp_path: Path, count: int) -> None:
    file = save_as(tmp_path, tuple("abcde"[:count]), card=False)
    with pytest.raises(ModelError, match=rf"{count} outputs, the data has 3 classes"):
        opened(made.recipe_of({"model": MODEL, "weights": file}))


def test_a_student_with_another_number_of_outputs_is_an_error_with_both_counts() -> None:
    with pytest.raises(ModelError, match=r"has 5 outputs, the data has 3 classes; its function must return num_classes logits"):
        networks.build(recipe.Network(model="python:tiny_network:five", input_size=16), made.CLASSES)


@pytest.mark.parametrize("card", [True, False])
def test_a_mapping_reorders_merges_and_drops_outputs(tmp_path: Path, card: bool) -> None:
    own = ("crimson", "sky", "sea", "scarlet", "grass")
    mapping = {"sky": "blue", "sea": "blue", "grass": "green", "scarlet": "red"}
    spec = {"model": MODEL, "weights": save_as(tmp_path, own, card=card), "mapping": mapping} | ({} if card else {"classes": own})
    batch = made.views()
    answer, raw = logits(opened(made.recipe_of(spec)), batch), made.answers_of(made.network(classes=own), batch)
    expected = torch.stack([(raw[:, 1].exp() + raw[:, 2].exp()).log(), raw[:, 4], raw[:, 3]], 1)
    assert torch.allclose(answer, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"gren": "green"}, "no output 'gren'. Did you mean 'green'"),
        ({"green": "gren"}, "goes to 'gren', which the data does not have. Did you mean 'green'"),
        ({"green": "green", "blue": "red"}, "no output goes to 'blue'; every class"),
    ],
)
def test_mappings_that_do_not_fit_are_explained(weights_file: str, mapping: dict[str, str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        opened(made.recipe_of({"model": MODEL, "weights": weights_file, "mapping": mapping}))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model": "tim:resnet18"}, "Did you mean 'timm'"),
        ({"model": "onnx:none.onnx"}, "onnx:none.onnx does not exist"),
        ({"model": "tflite:none.tflite"}, "does not exist"),
        ({"model": "logits:none"}, "does not exist"),
        ({"model": "onnx:none.onnx", "weights": "x", "strides": [1]}, "does not use weights, strides"),
        ({"model": "onnx:none.onnx", "probe": True}, "onnx:none.onnx has only logits; a probe takes the features"),
        ({"model": MODEL, "weights": "x", "new_head": True}, r"new_head.*knows nothing.*probe = true"),
        ({"model": MODEL, "probe": True}, "without weights knows nothing"),
        ({"model": MODEL, "weights": "x", "probe": True, "classes": ["a"]}, "take classes and mapping out"),
        ({"model": "timm:resnet18", "weights": "pretrained"}, r"has 1000 outputs, the data has 3 classes.*teacher\.mapping.*probe = true"),
        ({"model": "torchvision:resnet18", "weights": "pretrained"}, "has 1000 outputs, the data has 3 classes"),
    ],
)
def test_teachers_that_cannot_be_are_explained(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgeDistillError, match=message):
        opened(made.recipe_of(keys))


def test_the_classes_of_pretrained_networks_are_known() -> None:
    for model in ("timm:resnet18", "torchvision:resnet18"):
        names = networks.pretrained_classes(recipe.Network(model=model))
        assert names is not None
        assert len(names) == 1000
        assert names[0].startswith("tench")


HINT = [{"loss": "hint", "layers": {"2": "2"}}, {"loss": "kd"}]


@pytest.mark.parametrize(
    ("teachers", "whose"),
    [
        ([{"model": "onnx:x"}], "an onnx: teacher"),
        ([{"model": "logits:x"}], "a logits: teacher"),
        ([{"model": MODEL}, {"model": MODEL}], "an ensemble"),
    ],
)
def test_terms_on_layers_need_one_network(teachers: list[dict[str, Any]], whose: str) -> None:
    with pytest.raises(RecipeError, match=rf"the loss 'hint' needs layers of the teacher; {whose} has only logits"):
        opened(made.recipe_of(*teachers, distill=HINT))


def test_terms_on_layers_take_a_network_beside_one_of_weight_0(weights_file: str) -> None:
    spec = {"model": MODEL, "weights": weights_file}
    opened(made.recipe_of(spec, distill=HINT))
    opened(made.recipe_of(spec, {"model": "onnx:never-opened", "weight": 0.0}, distill=HINT))


@pytest.mark.parametrize(
    ("weights", "message"), [((-1.0, 1.0), "weight"), ((0.0, 0.0), "with a weight above 0"), ((0.0,), "with a weight above 0")]
)
def test_weights_that_are_negative_or_all_0_are_refused(weights: tuple[float, ...], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        made.recipe_of(*({"model": MODEL, "weight": weight} for weight in weights))


def test_everything_that_changes_answers_changes_the_identity(tmp_path: Path, weights_file: str) -> None:
    other = str(made.save(made.network(seed=1), tmp_path / "second.safetensors"))
    one, two = {"model": MODEL, "weights": weights_file}, {"model": MODEL, "weights": other}
    swap = {"blue": "green", "green": "blue", "red": "red"}
    recipes = [
        made.recipe_of(one),
        made.recipe_of(two),
        made.recipe_of(one | {"mean": [0.4] * 3, "std": [0.5] * 3}),
        made.recipe_of(one | {"mean": [0.4] * 3, "std": [0.6] * 3}),
        made.recipe_of(one | {"input_size": 20}),
        made.recipe_of(one | {"strides": [1]}),
        made.recipe_of(one | {"args": {"dropout": 0.5}}),
        made.recipe_of(one | {"calibrate": True}),
        made.recipe_of(one | {"mapping": swap}),
        made.recipe_of(one, two),
        made.recipe_of(one, two, ensemble="logits"),
        made.recipe_of(one | {"weight": 2.0}, two),
        made.recipe_of(two, one | {"weight": 2.0}),
    ]
    identities = [msgspec.json.encode(dict(opened(wanted).identity), order="deterministic") for wanted in recipes]
    assert len(set(identities)) == len(recipes)
    again = [msgspec.json.encode(dict(opened(wanted).identity), order="deterministic") for wanted in recipes]
    assert identities == again


def test_an_ensemble_s_facts_are_those_of_all(tmp_path: Path, weights_file: str) -> None:
    onnx = made.write_onnx(made.network(), tmp_path / "t.onnx", dtype="uint8")
    one = {"model": MODEL, "weights": weights_file, "licence": "MIT"}
    wanted = made.recipe_of(one, one | {"input_size": 20, "licence": "Apache-2.0"}, one)
    facts, single = opened(wanted).facts, opened(made.recipe_of(one)).facts
    assert facts["model"] == f"{MODEL} + {MODEL} + {MODEL}"
    assert facts["licence"] == "MIT AND Apache-2.0"
    assert facts["input_size"] == 20
    assert facts["parameters"] == 3 * single["parameters"]
    assert facts["macs"] > 3 * single["macs"]
    assert facts["sha256"] == sha256_of_teachers(wanted)
    mixed = made.recipe_of(one, {"model": f"onnx:{onnx}"})
    assert (opened(mixed).facts["parameters"], opened(mixed).facts["macs"]) == (None, None)
    assert opened(mixed).facts["sha256"] == sha256_of_teachers(mixed)
