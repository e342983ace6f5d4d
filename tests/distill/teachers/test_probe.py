"""Linear probes: what is fitted, when a stored one is used again, and backbones that cannot have one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import made
import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch
from torch.nn import functional

from edgedistill import metrics
from edgedistill.distill.data import Splits
from edgedistill.distill.predict import answers_on
from edgedistill.distill.teachers import Teacher, open_teacher
from edgedistill.distill.teachers.probe import Labelled, fit
from edgedistill.errors import ModelError

MODEL = "python:tiny_network:make"


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    return made.save(made.network(), tmp_path / "backbone.safetensors")


@pytest.fixture
def probed(tmp_path: Path, weights_file: Path) -> Callable[..., tuple[Teacher, list[str]]]:
    """Return a function that opens a probe and returns it with what was said; nothing is said of a probe that is used again."""

    def opened(splits: Splits | None = None, *, student: dict[str, Any] | None = None, **keys: Any) -> tuple[Teacher, list[str]]:
        said: list[str] = []
        spec = {"model": MODEL, "weights": str(weights_file), "probe": True} | keys
        body = {"model": MODEL, "input_size": 16} | (student or {})
        wanted = made.recipe_of(spec, cache={"folder": str(tmp_path / "cache")}, student=body)
        teacher = open_teacher(wanted, splits or made.splits(), say=said.append)
        assert teacher is not None
        return teacher, said

    return opened


def test_a_probe_learns_the_classes_from_random_features(probed: Callable[..., tuple[Teacher, list[str]]]) -> None:
    teacher, said = probed()
    splits = made.splits()
    logits = answers_on(teacher, splits.test, student=made.recipe_of({"model": MODEL}).student)
    assert metrics.accuracy(logits, splits.test.labels) == 1
    assert said[0].startswith(f"probe of {MODEL}: 24 images, 64 features, L2 ")
    assert said[0].endswith("100.0% of the 12 validation images")
    assert teacher.answer(made.views(), ["2"]).features["2"].shape == (5, 4, 8, 8)


def test_it_is_used_again_for_the_same_and_only_for_the_same(
    tmp_path: Path, weights_file: Path, probed: Callable[..., tuple[Teacher, list[str]]]
) -> None:
    first, _ = probed()
    again, said = probed()
    assert said == []
    assert msgspec.to_builtins(again.identity) == msgspec.to_builtins(first.identity)
    assert torch.equal(again.answer(made.views()).logits, first.answer(made.views()).logits)
    assert len(list((tmp_path / "cache" / "probes").iterdir())) == 1
    fewer = made.splits()
    for change in (
        lambda: probed(fewer._replace(train=fewer.train.take(np.arange(20)))),
        lambda: probed(fewer._replace(validation=fewer.validation.take(np.arange(9)))),
        lambda: probed(input_size=20),
        lambda: probed(mean=[0.4] * 3, std=[0.5] * 3),
        lambda: probed(student={"interpolation": "area"}),
        lambda: (made.save(made.network(seed=1), weights_file), probed())[1],
    ):
        assert len(change()[1]) == 1
    assert len(list((tmp_path / "cache" / "probes").iterdir())) == 7


@pytest.mark.parametrize("content", [b"", b"x" * 100, None])
def test_a_stored_probe_that_is_broken_or_of_something_else_is_trained_anew(
    tmp_path: Path, probed: Callable[..., tuple[Teacher, list[str]]], content: bytes | None
) -> None:
    first, _ = probed()
    (file,) = (tmp_path / "cache" / "probes").iterdir()
    if content is None:
        tensors = {name: torch.zeros_like(tensor) for name, tensor in safetensors.torch.load_file(file).items()}
        content = safetensors.torch.save(tensors, metadata={"fingerprint": "of something else"})
    file.write_bytes(content)
    again, said = probed()
    assert len(said) == 1
    assert torch.allclose(again.answer(made.views()).logits, first.answer(made.views()).logits, atol=1e-4)


@pytest.mark.parametrize("without_head", [True, False])
def test_weights_of_other_classes_or_without_a_head_do(
    tmp_path: Path, probed: Callable[..., tuple[Teacher, list[str]]], without_head: bool
) -> None:
    expected = probed()[0].answer(made.views()).logits
    built = made.network()
    tensors = {name: tensor.contiguous() for name, tensor in built.module.state_dict().items()}
    if without_head:
        del tensors["6.weight"], tensors["6.bias"]
    else:
        tensors |= {"6.weight": torch.randn(7, 64), "6.bias": torch.randn(7)}
    safetensors.torch.save_file(tensors, tmp_path / "other.safetensors")
    answer = probed(weights=str(tmp_path / "other.safetensors"), input_size=16)[0].answer(made.views()).logits
    assert torch.allclose(answer, expected, atol=1e-4)


def test_timm_and_torchvision_backbones_can_be_probed(tmp_path: Path, probed: Callable[..., tuple[Teacher, list[str]]]) -> None:
    for model in ("timm:resnet10t", "torchvision:shufflenet_v2_x0_5"):
        spec = made.recipe_of({"model": model})
        from edgedistill.distill import networks

        built = networks.build(spec.teachers[0], ("a", "b"))
        file = made.save(replace(built, name=model), tmp_path / "backbone2.safetensors", classes=("a", "b"))
        teacher, said = probed(model=model, weights=str(file), input_size=32)
        assert teacher.answer(made.views()).logits.shape == (5, 3)
        assert said[0].startswith(f"probe of {model}: 24 images, ")


def test_features_that_are_not_finite_are_refused(tmp_path: Path, probed: Callable[..., tuple[Teacher, list[str]]]) -> None:
    built = made.network()
    torch.nn.init.constant_(built.module.get_parameter("0.bias"), float("nan"))
    with pytest.raises(ModelError, match="gives features that are not finite"):
        probed(weights=str(made.save(built, tmp_path / "nan.safetensors")))


def test_the_fit_is_the_minimum_of_its_loss_and_a_start_does_not_change_it() -> None:
    torch.manual_seed(0)
    features = torch.randn(60, 4) * torch.tensor([1.0, 10.0, 0.1, 0.0]) + 3
    data = Labelled(features, torch.randint(0, 3, (60,)))
    probe = fit(data, strength=0.1, classes=3)
    deviation = features.std(0, correction=0)
    deviation[3] = 1.0
    weight, bias = (probe.weight * deviation).requires_grad_(), probe.bias.clone().requires_grad_()
    logits = functional.linear(features / deviation, weight, bias)
    (functional.cross_entropy(logits, data.labels) + 0.05 * weight.square().sum()).backward()
    assert weight.grad is not None
    assert weight.grad.abs().max() < 1e-3
    warm = fit(data, strength=0.1, classes=3, start=fit(data, strength=1.0, classes=3))
    assert torch.allclose(warm.weight, probe.weight, atol=1e-2)
