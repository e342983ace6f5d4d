"""A network small enough to train in a test, and a recipe for it; recipes name it as python:tiny_network:make."""

import torch
from torch import nn

RECIPE = """
name = "tiny"
[data]
source = "embedded"
train_limit = 160
test_limit = 100
[student]
model = "python:tiny_network:make"
input_size = 16
[train]
epochs = 1
batch_size = 16
lr = 0.01
threads = 1
accelerator = "cpu"
"""


def make(num_classes: int, *, width: int = 4, dropout: float = 0.0) -> nn.Module:
    """Return a network of one strided convolution, batch norm and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(width * 16, num_classes),
    )


def without_norm(num_classes: int, *, width: int = 4, dropout: float = 0.0) -> nn.Module:
    """Return a network whose answer on an image does not depend on the rest of the batch, nor on how a batch is cut into pieces."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(width * 16, num_classes),
    )


def five(num_classes: int) -> nn.Module:
    """Return a network with five outputs, whatever is asked for."""
    return make(5)


def not_a_network(num_classes: int) -> str:
    """Return something that is no module."""
    return "not a network"


class Residual(nn.Module):
    """A pointwise convolution to more channels, a depthwise one, and one back, added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width), nn.ReLU())
        self.depthwise = nn.Sequential(
            nn.Conv2d(4 * width, 4 * width, 3, padding=1, groups=4 * width, bias=False), nn.BatchNorm2d(4 * width), nn.ReLU()
        )
        self.project = nn.Sequential(nn.Conv2d(4 * width, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        """Return the sum."""
        return x + self.project(self.depthwise(self.expand(x)))


def prunable(num_classes: int, *, width: int = 8) -> nn.Module:
    """Return a network with channels that can be taken out: behind its first convolution, which keeps its own."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        nn.Conv2d(8, width, 1),
        Residual(width),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(width * 4, num_classes),
    )


class Prototypes(nn.Module):
    """A network that scales its channels by a tensor of its own, trained or fixed, which belongs to no layer."""

    def __init__(self, classes: int, *, trained: bool) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(8, 8, 1)
        if trained:
            self.scale = nn.Parameter(torch.ones(8, 1, 1))
        else:
            self.register_buffer("scale", torch.ones(8, 1, 1))
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        """Return logits."""
        return self.head((self.inner(self.stem(x)) * self.scale).mean((2, 3)))


def prototypes(num_classes: int) -> nn.Module:
    """Return a network whose channels cannot be taken out and built again."""
    return Prototypes(num_classes, trained=True)


def fixed(num_classes: int) -> nn.Module:
    """Return a network that does not run without all of its channels, which only running it shows."""
    return Prototypes(num_classes, trained=False)
