"""The last layer of timm's, torchvision's and anybody's networks."""

import pytest
import timm
import tiny_network
import torch
from torch import nn
from torchvision import models

from edgedistill.distill import heads
from edgedistill.errors import ModelError


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (timm.create_model("resnet10t", num_classes=3), "fc"),
        (timm.create_model("mobilenetv3_small_050", num_classes=3), "classifier"),
        (models.mobilenet_v3_small(num_classes=3), "classifier.3"),
        (tiny_network.make(3), "6"),
    ],
)
def test_the_last_layer_is_found_and_replaced(module: nn.Module, name: str) -> None:
    assert heads.names_of(module, whose="it") == (name,)
    features = heads.linear_of(module, whose="it")[1].in_features
    heads.replace(module, 5, whose="it")
    module.eval()
    assert module(torch.zeros(2, 3, 32, 32)).shape == (2, 5)
    heads.put(module, name, nn.Identity())
    assert module(torch.zeros(2, 3, 32, 32)).shape == (2, features)


def test_two_heads_are_found_but_are_not_one_linear_layer() -> None:
    module = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=3)
    assert set(heads.names_of(module, whose="it")) == {"head", "head_dist"}
    with pytest.raises(ModelError, match=r"the head of it \(head, head_dist\) is not one linear layer"):
        heads.linear_of(module, whose="it")


def test_a_network_without_a_linear_layer_has_no_head() -> None:
    with pytest.raises(ModelError, match="timm:x has no linear layer at its end"):
        heads.names_of(nn.Sequential(nn.Conv2d(3, 4, 1)), whose="timm:x")
