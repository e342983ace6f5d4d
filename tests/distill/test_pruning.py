"""Pruning: layers that hang together stay together, ratios and targets are kept, and what is saved builds the same network."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

from edgedistill import recipe
from edgedistill.distill import loop, networks, pruning, run, schedules, weights, widths
from edgedistill.distill.channels import Group
from edgedistill.distill.networks import Network
from edgedistill.errors import EdgeDistillError, ModelError, RecipeError
from edgedistill.recipe import BornAgain, Prune, Recipe, Term

CLASSES = tuple("abcdefghij")
#: Residual sums in all; depthwise convolutions in all; squeeze-and-excite in V3; several kernels a block in V4; padding in Lite0.
MODELS = {
    "timm:mobilenetv2_050": 32,
    "timm:mobilenetv3_small_050": 28,
    "timm:mobilenetv4_conv_small_050": 32,
    "timm:tf_efficientnet_lite0": 32,
}


def network(model: str = "python:tiny_network:prunable", size: int = 16, **keys: Any) -> Network:
    """Return a network with random weights that are the same in every test."""
    torch.manual_seed(0)
    built = networks.build(recipe.Student(model=model, input_size=size, **keys), CLASSES)
    for layer in built.module.modules():
        if isinstance(layer, nn.BatchNorm2d):  # as after a training: no two channels count the same
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    return built


def answers(thin: Network) -> torch.Tensor:
    """Return logits of two fixed images."""
    images = torch.randn(2, 3, thin.input_size, thin.input_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return thin.module.eval()(images)


def rebuilt(thin: Network, model: str, size: int, folder: Path) -> Network:
    """Return the network that is built from what was saved of another one."""
    assert thin.pruned is not None
    card = {"classes": CLASSES, "pruned": msgspec.to_builtins(thin.pruned)}
    weights.save(thin.module, folder / "thin.safetensors", card)
    return networks.build(recipe.Student(model=model, input_size=size, weights=str(folder / "thin.safetensors")), CLASSES)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.85])
@pytest.mark.parametrize("model", MODELS)
def test_a_pruned_network_is_thinner_runs_and_is_rebuilt_bit_by_bit(model: str, ratio: float, tmp_path: Path) -> None:
    whole = network(model, MODELS[model])
    before, sizes = answers(whole), networks.count(whole)
    thin = pruning.prune(whole, Prune(ratio=ratio))
    assert all(small < large for small, large in zip(networks.count(thin), sizes, strict=True))
    assert thin.pruned is not None
    assert thin.pruned.ratio == pytest.approx(ratio, abs=0.05)
    assert msgspec.to_builtins(thin.pruned.before) == {"parameters": sizes[0], "macs": sizes[1]}
    assert answers(thin).shape == (2, len(CLASSES))
    again = rebuilt(thin, model, MODELS[model], tmp_path)
    assert torch.equal(answers(again), answers(thin))
    assert again.pruned == thin.pruned
    assert torch.equal(answers(whole), before)  # the whole one stays as it was
    assert whole.pruned is None


@pytest.mark.parametrize("model", MODELS)
def test_channels_are_multiples_of_eight_depthwise_ones_stay_so_and_the_stem_is_safe(model: str) -> None:
    whole, thin = network(model, MODELS[model]), pruning.prune(network(model, MODELS[model]), Prune(ratio=0.5)).module
    wide = dict(whole.module.named_modules())
    convolutions = [(name, layer) for name, layer in thin.named_modules() if isinstance(layer, nn.Conv2d)]
    assert convolutions[0][1].out_channels == wide[convolutions[0][0]].out_channels
    for name, layer in convolutions:
        assert layer.out_channels % 8 == 0 or layer.out_channels == wide[name].out_channels, name
        depthwise = wide[name].groups > 1
        assert layer.groups == (layer.out_channels if depthwise else 1)
        assert layer.weight.shape[:2] == (layer.out_channels, layer.in_channels // layer.groups)
    assert thin.get_classifier().out_features == len(CLASSES)


@pytest.mark.parametrize("importance", ["l2", "batch_norm", "random"])
def test_each_importance_prunes_the_same_way_again(importance: Any) -> None:
    spec = Prune(importance=importance, ratio=0.4)
    first, second = (pruning.prune(network(), spec, seed=7) for _ in range(2))
    assert torch.equal(answers(first), answers(second))
    assert first.pruned is not None
    assert first.pruned.importance == importance


def test_random_importance_is_of_its_seed_and_leaves_the_state_of_chance() -> None:
    spec = Prune(importance="random", ratio=0.4)
    first, second = (pruning.prune(network(), spec, seed=seed) for seed in (1, 2))
    assert not torch.equal(answers(first), answers(second))
    built, state = network(), torch.get_rng_state()
    pruning.prune(built, spec, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_counts_least_goes() -> None:
    """Half of the inner channels have no weights: exactly these go, and the answers stay the same."""
    whole = network()
    dead = torch.arange(0, 32, 2)
    block = whole.module.get_submodule("2")
    with torch.no_grad():
        for name in ("expand.0.weight", "expand.1.weight", "expand.1.bias", "depthwise.0.weight", "depthwise.1.weight"):
            block.get_parameter(name)[dead] = 0
        block.get_parameter("project.0.weight")[:, dead] = 0
    thin = pruning.prune(whole, Prune(ratio=0.5, ignore=("1", "2.project")))
    assert widths.of(thin.module)["2.expand.0"]["out_channels"] == 16
    torch.testing.assert_close(answers(thin), answers(whole))


@pytest.mark.parametrize(
    ("scores", "ratio", "round_to", "expected"),
    [
        ([[1, 2, 3, 4], [5, 6, 7, 8]], 0.25, 1, {0: {0, 1}}),
        ([[4, 1, 3, 2], [5, 6, 7, 8]], 0.25, 1, {0: {1, 3}}),
        ([[1, 2, 3, 4], [5, 6, 7, 8]], 0.25, 4, {}),  # 2 left of 4 round to 4: half is rounded up
        ([[1, 2, 3, 4, 9, 9, 9, 9], [5, 6, 7, 8, 9, 9, 9, 9]], 0.25, 4, {0: {0, 1, 2, 3}}),
        ([[1, 2, 3, 4], [5, 6, 7, 8]], 0.5, 1, {0: {0, 1, 2}}),  # one is left, so that the layer is not cut off
        ([[1] * 20, [2] * 20], 0.5, 1, {0: set(range(18))}),  # a tenth is left
        ([[1, 1, 1, 1, 1, 1], [2, 2, 2, 2, 2, 2]], 0.4, 4, {0: {0, 1}}),  # 6 are no multiple of 4, what is left is
        ([[2, 2, 1, 1], [3, 3, 3, 3]], 0.1, 1, {}),  # less than one channel
    ],
)
def test_the_lowest_scores_go_by_hand(scores: list[list[float]], ratio: float, round_to: int, expected: dict[int, set[int]]) -> None:
    groups = [Group(str(number), torch.tensor(values, dtype=torch.float32), ()) for number, values in enumerate(scores)]
    assert pruning.lowest(groups, ratio, round_to=round_to) == expected


@pytest.mark.parametrize("model", MODELS)
def test_a_size_is_known_before_anything_is_cut_and_a_larger_ratio_never_leaves_more(model: str) -> None:
    plan = pruning.plan_of(network(model, MODELS[model]), Prune(ratio=0.5))
    sizes = [pruning.size_at(plan, ratio / 10) for ratio in range(10)]
    assert sizes[0] == plan.size
    for before, after in pairwise(sizes):
        assert before.macs > after.macs
        assert before.parameters > after.parameters
    assert (sizes[6].parameters, sizes[6].macs) == networks.count(pruning.thin(plan, 0.6))


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_the_target_of_macs_is_kept_and_nearly_used(share: float) -> None:
    whole = network("timm:mobilenetv2_050", 32)
    thin = pruning.prune(whole, Prune(macs=share))
    found = networks.count(thin)[1] / networks.count(whole)[1]
    assert share - 0.05 < found <= share


def test_pruning_twice_remembers_the_first_time(tmp_path: Path) -> None:
    first = pruning.prune(network(), Prune(ratio=0.2, ignore=("1", "2.project")))
    second = pruning.prune(rebuilt(first, "python:tiny_network:prunable", 16, tmp_path), Prune(ratio=0.6))
    again = rebuilt(second, "python:tiny_network:prunable", 16, tmp_path)
    assert torch.equal(answers(again), answers(second))
    assert second.pruned is not None
    assert second.pruned.before.parameters == networks.count(first)[0]


@pytest.mark.parametrize(
    ("model", "keys", "error", "message"),
    [
        ("prunable", {"ratio": 0.5, "ignore": ("2.expnd",)}, RecipeError, r"has no layer '2.expnd'. Did you mean .*'2.expand'"),
        ("prunable", {"ratio": 0.5, "ignore": ("1", "2")}, ModelError, "has no channels that can be pruned; leave layers out"),
        ("make", {"ratio": 0.5}, ModelError, "has no channels that can be pruned"),
        ("prunable", {"macs": 0.05}, RecipeError, r"macs = 0.05 cannot be reached: the thinnest .* multiply-accumulates \(\d+.\d%\)"),
        ("prototypes", {"ratio": 0.5, "round_to": 4}, ModelError, "has no channels that can be pruned"),
        ("fixed", {"ratio": 0.5, "round_to": 4}, ModelError, r"fixed cannot be pruned: it does not run without its channels \("),
    ],
)
def test_what_cannot_be_pruned(model: str, keys: dict[str, Any], error: type[EdgeDistillError], message: str) -> None:
    with pytest.raises(error, match=message):
        pruning.prune(network(f"python:tiny_network:{model}"), Prune(**keys))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prune": Prune(ratio=0.5)}, "student.prune without student.weights.*train the whole student first"),
        ({"prune": Prune(bytes=100), "weights": "x"}, "student.prune.bytes needs exported files.*edgedistill distill does"),
        ({"prune": Prune(latency_ms=1), "weights": "x"}, "student.prune.latency_ms needs exported files"),
    ],
)
def test_what_a_training_refuses_before_it_begins(tiny_recipe: Recipe, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    wanted = msgspec.structs.replace(tiny_recipe, student=msgspec.structs.replace(tiny_recipe.student, **changes))
    with pytest.raises(RecipeError, match=message):
        run.distill(wanted, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def thin_recipe(tiny_recipe: Recipe, tmp_path: Path) -> Recipe:
    """A training of a student that is pruned from the weights of another run."""
    student = recipe.Student(model="python:tiny_network:prunable", input_size=16)
    whole = msgspec.structs.replace(tiny_recipe, student=student)
    run.distill(whole, tmp_path / "whole")
    spec = Prune(ratio=0.5)
    student = msgspec.structs.replace(student, weights=str(tmp_path / "whole" / run.STUDENT), prune=spec)
    train = msgspec.structs.replace(whole.train, checkpoint_steps=4, snapshots=(1,))
    return msgspec.structs.replace(whole, student=student, train=train)


def test_a_run_of_a_pruned_student_is_read_back_as_it_was_trained(thin_recipe: Recipe, tmp_path: Path) -> None:
    results = run.distill(thin_recipe, tmp_path / "run")
    loaded = run.load(tmp_path / "run")
    assert loaded.student.pruned is not None
    parameters, macs = networks.count(loaded.student)
    pruned = results["student"]["pruned"]
    assert results["student"]["parameters"] == parameters < pruned["before"]["parameters"]
    assert results["student"]["macs"] == macs < pruned["before"]["macs"]
    assert pruned["before"]["parameters"] == networks.count(network())[0]
    assert json.loads((tmp_path / "run" / run.RESULTS).read_text())["student"]["pruned"] == pruned
    assert recipe.load(tmp_path / "run" / run.RECIPE) == thin_recipe
    for file in ("student.safetensors", "student-epoch-1.safetensors"):  # a thin student can teach, and be trained on, too
        spec = recipe.Teacher(model="python:tiny_network:prunable", weights=str(tmp_path / "run" / file), input_size=16)
        assert networks.count(networks.build(spec, loaded.student.classes or ())) == (parameters, macs)


def test_an_interrupted_training_of_a_pruned_student_ends_with_the_same_bits(thin_recipe: Recipe, tmp_path: Path) -> None:
    run.distill(thin_recipe, tmp_path / "whole_run")

    def stop(text: str, done: int, total: int) -> None:
        if text.startswith("training") and done == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.distill(thin_recipe, tmp_path / "cut", progress=stop)
    assert (tmp_path / "cut" / loop.CHECKPOINT).is_file()
    run.distill(thin_recipe, tmp_path / "cut", resume=True)
    assert (tmp_path / "cut" / run.STUDENT).read_bytes() == (tmp_path / "whole_run" / run.STUDENT).read_bytes()


def test_generations_of_a_schedule_are_pruned_alike(thin_recipe: Recipe, tmp_path: Path) -> None:
    terms = (Term(loss="kd"), Term(loss="cross_entropy"))
    train = msgspec.structs.replace(thin_recipe.train, epochs=1)
    wanted = msgspec.structs.replace(thin_recipe, schedule=BornAgain(generations=2), distill=terms, train=train)
    results = schedules.distill(wanted, tmp_path / "run")
    assert results["stages"][0]["parameters"] == results["stages"][1]["parameters"] < networks.count(network())[0]
    assert run.load(tmp_path / "run").student.pruned is not None
