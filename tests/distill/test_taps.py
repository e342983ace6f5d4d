"""Outputs of inner layers by dotted name: which are found, what is kept, and what is refused."""

import pytest
import torch
from torch import nn

from edgedistill.distill.taps import Taps
from edgedistill.errors import RecipeError


class Net(nn.Module):
    """Two stages with an activation that works in place, and a layer that no image passes through."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True), nn.Linear(2, 2))
        self.idle = nn.Linear(2, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.stages(images)


class TwoOutputs(nn.Module):
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return images, images


@pytest.fixture
def net() -> Net:
    net = Net()
    nn.init.constant_(net.stages[0].weight, -1.0)
    nn.init.zeros_(net.stages[0].bias)
    return net


def test_outputs_are_those_of_the_layer_also_where_the_next_one_works_in_place(net: Net) -> None:
    taps = Taps(net, ["stages.0", "stages.1"], whose="student")
    net(torch.ones(1, 2))
    taken = taps.take()
    assert taken["stages.0"].tolist() == [[-2.0, -2.0]]
    assert taken["stages.1"].tolist() == [[0.0, 0.0]]


def test_gradients_pass_through_a_tap(net: Net) -> None:
    taps = Taps(net, ["stages.0"], whose="student")
    net(torch.ones(1, 2))
    taps.take()["stages.0"].sum().backward()
    assert net.stages[0].weight.grad is not None
    assert net.stages[0].weight.grad.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_a_name_given_twice_is_one_tap_and_outputs_are_taken_once(net: Net) -> None:
    taps = Taps(net, ["stages.0", "stages.0"], whose="student")
    net(torch.ones(1, 2))
    assert list(taps.take()) == ["stages.0"]
    assert taps.outputs == {}


def test_removed_taps_keep_nothing(net: Net) -> None:
    taps = Taps(net, ["stages.0"], whose="student")
    taps.remove()
    net(torch.ones(1, 2))
    assert taps.outputs == {}
    assert not net.stages[0]._forward_hooks


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stages.00", r"the teacher has no layer 'stages.00'. Did you mean 'stages.0' or .* It has: stages, stages.0, .*idle"),
        ("stage", "Did you mean 'stages'"),
        ("", "has no layer ''"),
    ],
)
def test_an_unknown_layer_is_named_with_close_matches(net: Net, name: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Taps(net, ["idle", name], whose="teacher")
    assert not net.idle._forward_hooks  # nothing is left in a network that was refused


def test_a_layer_that_no_image_passes_through_is_an_error(net: Net) -> None:
    taps = Taps(net, ["stages.0", "idle"], whose="student")
    net(torch.ones(1, 2))
    with pytest.raises(RecipeError, match="the student does not use its layer 'idle'; name one that an image passes through"):
        taps.take()


def test_a_layer_with_several_outputs_is_an_error() -> None:
    net = nn.Sequential(TwoOutputs())
    Taps(net, ["0"], whose="teacher")
    with pytest.raises(RecipeError, match="the layer '0' of the teacher returns a tuple, expected one tensor"):
        net(torch.ones(1, 2))


def test_names_of_real_networks() -> None:
    """Dotted names as timm has them, block by block."""
    import timm

    net = timm.create_model("resnet10t", num_classes=10)
    with pytest.raises(RecipeError, match=r"Did you mean .*'layer1'"):
        Taps(net, ["layer_1"], whose="teacher")
