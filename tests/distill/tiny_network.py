"""A network small enough to train in a test, and a recipe for it; recipes name it as python:tiny_network:make."""

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
