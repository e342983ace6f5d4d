"""Small data and files to teach from: photographs of three colours, a tiny network's weights, ONNX graphs of the same network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgedistill import recipe
from edgedistill.distill import networks, weights
from edgedistill.distill.data import Splits
from edgedistill.distill.images import ImageSet
from edgedistill.distill.loader import View, ViewBatch, collate
from edgedistill.distill.networks import Network
from edgedistill.recipe import HALF_MEAN, HALF_STD, Recipe

CLASSES = ("blue", "green", "red")
SIDE = 16


class Photographs:
    """Frames whose colour is their class, with noise."""

    def __init__(self, labels: np.ndarray, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.frames = rng.integers(0, 120, (len(labels), SIDE, SIDE, 3), np.uint8)
        self.frames[np.arange(len(labels)), :, :, labels] += 90

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.frames[index]


def image_set(count: int, *, seed: int, origin: str = "train", labelled: bool = True) -> ImageSet:
    labels = np.arange(count) % len(CLASSES)
    kept = labels if labelled else np.full(count, -1)
    return ImageSet(Photographs(labels, seed), kept.astype(np.int64), CLASSES, np.arange(count), origin)


def splits(*, unlabelled: int = 0, own_test: bool = True) -> Splits:
    """Return 24 training images, 12 validation images carved out of the same source, and 9 test images."""
    source = image_set(36, seed=0)
    test = image_set(9, seed=1, origin="test") if own_test else source.take(np.arange(9))
    extra = image_set(unlabelled, seed=2, labelled=False) if unlabelled else None
    return Splits(source.take(np.arange(12, 36)), source.take(np.arange(12)), test, "CC0-1.0", (), extra)


def recipe_of(*teachers: dict[str, Any], **keys: Any) -> Recipe:
    """Return a recipe with these teachers."""
    tree = {
        "name": "made",
        "data": {"source": "embedded"},
        "student": {"model": "python:tiny_network:make", "input_size": SIDE},
        "teacher": list(teachers) if len(teachers) != 1 else teachers[0],
        "distill": [{"loss": "kd"}],
        "train": {"epochs": 1},
    }
    import msgspec

    return msgspec.convert(tree | keys, Recipe)


def network(*, seed: int = 0, classes: tuple[str, ...] = CLASSES) -> Network:
    """Return a tiny network with random weights and batch statistics, in evaluation mode."""
    torch.manual_seed(seed)
    built = networks.build(recipe.Network(model="python:tiny_network:make", input_size=SIDE), classes)
    norm = built.module.get_submodule("1")
    assert isinstance(norm, nn.BatchNorm2d)
    norm.running_mean = torch.randn(4) * 0.1
    norm.running_var = torch.rand(4) + 0.5
    built.module.eval()
    return built


def save(built: Network, path: Path, *, classes: tuple[str, ...] | None = CLASSES) -> Path:
    """Write a network's weights, with a card that says its classes unless these are None."""
    card = {"input_size": SIDE, "mean": list(HALF_MEAN), "std": list(HALF_STD)}
    weights.save(built.module, path, card | ({"classes": list(classes)} if classes is not None else {}))
    return path


def views(count: int = 5, *, side: int = SIDE) -> ViewBatch:
    pixels = np.random.default_rng(3).integers(0, 256, (count, side, side, 3), np.uint8)
    return collate([View(image, 0, i, i, 0, 1.0) for i, image in enumerate(pixels)])


def answers_of(built: Network, batch: ViewBatch) -> torch.Tensor:
    """Return a network's logits, by torch alone."""
    with torch.no_grad():
        logits: torch.Tensor = built.module(built.feed(batch.views))
        return logits


def write_onnx(
    built: Network, path: Path, *, layout: str = "NCHW", dtype: str = "float32", batch: int | str = "N", softmax: bool = False
) -> Path:
    """Write the tiny network as an ONNX graph; a uint8 input is normalized in the graph, a float32 one outside."""
    conv, norm, linear = (built.module.get_submodule(name) for name in ("0", "1", "6"))
    arrays = {f"conv_{name}": tensor for name, tensor in conv.state_dict().items()}
    arrays |= {f"norm_{name}": tensor for name, tensor in norm.state_dict().items() if name != "num_batches_tracked"}
    arrays |= {f"linear_{name}": tensor for name, tensor in linear.state_dict().items()}
    arrays |= {"mean": torch.tensor(built.mean).view(3, 1, 1) * 255, "std": torch.tensor(built.std).view(3, 1, 1) * 255}
    nodes = []
    last = "pixels"

    def add(kind: str, *more: str, **attributes: Any) -> None:
        nonlocal last
        nodes.append(helper.make_node(kind, [last, *more], [f"{kind}_{len(nodes)}"], **attributes))
        last = nodes[-1].output[0]

    if layout == "NHWC":
        add("Transpose", perm=[0, 3, 1, 2])
    if dtype == "uint8":
        add("Cast", to=TensorProto.FLOAT)
        add("Sub", "mean")
        add("Div", "std")
    add("Conv", "conv_weight", "conv_bias", strides=[2, 2], pads=[1, 1, 1, 1])
    add("BatchNormalization", "norm_weight", "norm_bias", "norm_running_mean", "norm_running_var")
    add("Relu")
    add("AveragePool", kernel_shape=[2, 2], strides=[2, 2])
    add("Flatten")
    add("Gemm", "linear_weight", "linear_bias", transB=1)
    if softmax:
        add("Softmax", axis=1)
    shape = [batch, 3, SIDE, SIDE] if layout == "NCHW" else [batch, SIDE, SIDE, 3]
    kind = TensorProto.FLOAT if dtype == "float32" else TensorProto.UINT8
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", kind, shape)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [batch, linear.out_features])],
        [numpy_helper.from_array(tensor.numpy(), name) for name, tensor in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path
