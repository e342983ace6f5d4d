"""Thin networks built again from their card, and cards that do not fit."""

from pathlib import Path
from typing import Any

import pytest
import tiny_network
import torch
from torch import nn

from edgedistill.distill import weights, widths
from edgedistill.errors import ModelError


def thin(**changes: dict[str, int]) -> dict[str, dict[str, int]]:
    """Return widths of the prunable network with half of its inner channels."""
    return {
        "2.expand.0": {"out_channels": 16},
        "2.expand.1": {"num_features": 16},
        "2.depthwise.0": {"in_channels": 16, "out_channels": 16, "groups": 16},
        "2.depthwise.1": {"num_features": 16},
        "2.project.0": {"in_channels": 16},
        **changes,
    }


def test_only_layers_with_channels_are_told() -> None:
    found = widths.of(tiny_network.prunable(5))
    assert found["0.0"] == {"in_channels": 3, "out_channels": 8, "groups": 1}
    assert found["0.1"] == {"num_features": 8}
    assert found["5"] == {"in_features": 32, "out_features": 5}
    assert found.keys() == {"0.0", "0.1", "1", "5"} | thin().keys() | {"2.project.1"}


def test_a_difference_has_what_changed_and_no_more() -> None:
    before = {"a": {"in_channels": 8, "groups": 1}, "b": {"num_features": 4}}
    after = {"a": {"in_channels": 4, "groups": 1}, "b": {"num_features": 4}}
    assert widths.difference(before, after) == {"a": {"in_channels": 4}}


def test_applied_widths_are_those_of_the_layers_and_of_their_tensors() -> None:
    module = tiny_network.prunable(5)
    before = widths.of(module)
    widths.apply(module, thin(), whose="it")
    assert widths.difference(before, widths.of(module)) == thin()
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    assert shapes["2.expand.0.weight"] == (16, 8, 1, 1)
    assert shapes["2.depthwise.0.weight"] == (16, 1, 3, 3)
    assert shapes["2.depthwise.1.running_var"] == (16,)
    assert shapes["2.project.0.weight"] == (8, 16, 1, 1)
    assert module(torch.zeros(2, 3, 16, 16)).shape == (2, 5)


def test_fresh_weights_can_be_trained() -> None:
    """A head that gets no weights from a file must not be left with what was in the memory."""
    module = tiny_network.prunable(5)
    widths.apply(module, {**thin(), "5": {"in_features": 32}}, whose="it")
    assert all(torch.isfinite(tensor).all() for tensor in module.state_dict().values())
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert torch.equal(module.get_submodule("2.expand.1").weight, torch.ones(16))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"7.conv": {"out_channels": 4}}, r"it is of a pruned network with 7.conv: out_channels = 4, this one has no such layer"),
        ({"1": {"out_channels": 9}}, r"1: out_channels = 9, this one has out_channels = 8; give the network and args"),
        ({"1": {"num_features": 4}}, r"1: num_features = 4, this one has no such layer"),
        ({"2": {"out_channels": 4}}, r"2: out_channels = 4, this one has no such layer"),
    ],
)
def test_widths_of_another_network_are_refused(changes: dict[str, dict[str, int]], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        widths.apply(tiny_network.prunable(5), thin(**changes), whose="it")


PRUNED = {"importance": "l2", "ratio": 0.5, "before": {"parameters": 9, "macs": 9}, "widths": {"1": {"out_channels": 4}}}


def test_a_card_without_pruning_has_none_and_a_whole_one_is_read() -> None:
    assert widths.read({"classes": []}, whose="x") is None
    found = widths.read({"pruned": PRUNED}, whose="x")
    assert found is not None
    assert (found.widths, found.before.macs) == ({"1": {"out_channels": 4}}, 9)


@pytest.mark.parametrize(
    "changes",
    [{"widths": {"1": {"out_channels": 0}}}, {"widths": {"1": {"out_channels": 2.5}}}, {"widths": []}, {"before": {}}, {"other": 1}],
)
def test_a_broken_card_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"x has a broken card: pruned: .*copy it again"):
        widths.read({"pruned": {**PRUNED, **changes}}, whose="x")


def test_loading_makes_the_network_as_thin_as_the_file(tmp_path: Path) -> None:
    from edgedistill import recipe

    narrow: nn.Module = tiny_network.prunable(5)
    widths.apply(narrow, thin(), whose="it")
    weights.save(narrow, tmp_path / "thin.safetensors", {"pruned": {**PRUNED, "widths": thin()}})
    whole = tiny_network.prunable(5)
    spec = recipe.Student(model="python:tiny_network:prunable")
    loaded = weights.load_into(whole, str(tmp_path / "thin.safetensors"), spec=spec, classes=tuple("abcde"))
    assert loaded.pruned is not None
    assert loaded.pruned.widths == thin()
    image = torch.randn(2, 3, 16, 16)
    assert torch.equal(whole.eval()(image), narrow.eval()(image))
