"""Networks by name, with their weights and the preprocessing that belongs to the weights.

`timm:NAME`, `torchvision:NAME` and `python:MODULE:FUNCTION`. How a network is trained is `loop`'s business.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from edgedistill import recipe
from edgedistill.distill import feed, heads, weights
from edgedistill.distill.widths import Pruned
from edgedistill.errors import MissingExtraError, ModelError, close_matches


@dataclass(frozen=True)
class Network:
    """A network with the input it was made for; `mean` and `std` are RGB, 0 to 1; `classes` is None until they are known.

    `options` holds what its answers depend on beside its name and weights: arguments and strides. `pruned` says what was taken
    out of it, None for nothing.
    """

    module: nn.Module
    name: str
    input_size: int
    mean: recipe.PerChannel
    std: recipe.PerChannel
    classes: tuple[str, ...] | None = None
    licence: str = "unknown"
    sha256: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    pruned: Pruned | None = None

    def feed(self, views_nhwc: torch.Tensor) -> torch.Tensor:
        """Return views as this network wants them: its own size and normalization, (N, 3, S, S) float32, channels last.

        Args:
            views_nhwc: (N, H, W, 3) uint8 RGB.
        """
        images = feed.resized(views_nhwc, (self.input_size, self.input_size))
        return feed.normalized(images, mean=self.mean, std=self.std)


def build(spec: recipe.Network, classes: tuple[str, ...]) -> Network:
    """Build a network with one output a class and load its weights; with `new_head`, the last layer is a fresh one.

    Raises ModelError for an unknown name, arguments it does not take, weights that do not fit, or other class names.
    """
    kind, _, name = spec.model.partition(":")
    if kind not in BUILDERS:
        known = "timm:NAME, torchvision:NAME or python:MODULE:FUNCTION"
        raise ModelError(f"unknown kind of network {spec.model!r}.{close_matches(kind, BUILDERS)} Write {known}")
    if spec.new_head and not spec.weights:
        raise ModelError(f"{spec.model}: new_head = true without weights; name the weights that everything but the last layer comes from")
    pretrained = spec.weights == "pretrained"
    module, card = BUILDERS[kind](name, spec, len(classes), pretrained)
    set_strides(module, spec.strides or [])
    loaded = None
    if spec.weights and not pretrained:
        loaded = weights.load_into(module, spec.weights, spec=spec, classes=classes)
        card |= {key: value for key, value in loaded.card.items() if key in ("input_size", "mean", "std", "licence")}
    network = Network(
        module=module.to(memory_format=torch.channels_last),
        name=spec.model,
        input_size=spec.input_size or card.get("input_size", 224),
        mean=spec.mean or tuple(card.get("mean", recipe.HALF_MEAN)),
        std=spec.std or tuple(card.get("std", recipe.HALF_STD)),
        classes=classes,
        licence=spec.licence or card.get("licence") or "unknown",
        sha256=loaded.sha256 if loaded is not None else "",
        options={name: value for name, value in (("args", spec.args), ("strides", spec.strides)) if value},
        pruned=loaded.pruned if loaded is not None else None,
    )
    if kind == "python":
        check_outputs(network, len(classes))
    return network


def check_outputs(network: Network, classes: int) -> None:
    """Raise ModelError for a network that does not return one logit a class."""
    try:
        answer = answer_on_blank(network)
    except RuntimeError as error:
        size = network.input_size
        raise ModelError(f"{network.name} fails on an image of {size}x{size}: {error}; set input_size to what it takes") from error
    shape = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
    if shape != (1, classes):
        outputs = f"{shape[1]} outputs" if isinstance(shape, tuple) and len(shape) == 2 else f"an output {shape}"
        raise ModelError(f"{network.name} has {outputs}, the data has {classes} classes; its function must return num_classes logits")


def answer_on_blank(network: Network) -> torch.Tensor:
    """Return what a network answers on one black image, in evaluation mode without gradient; its mode is kept."""
    training = network.module.training
    device = next((parameter.device for parameter in network.module.parameters()), None)
    try:
        with torch.inference_mode():
            answer: torch.Tensor = network.module.eval()(torch.zeros(1, 3, network.input_size, network.input_size, device=device))
            return answer
    finally:
        network.module.train(training)


def _timm(name: str, spec: recipe.Network, classes: int, pretrained: bool) -> tuple[nn.Module, dict[str, Any]]:
    try:
        import timm
    except ImportError as error:
        raise MissingExtraError("timm", "workstation") from error
    if not timm.is_model(name):
        raise ModelError(f"timm has no network {name!r}.{close_matches(name, timm.list_models())} List them with timm.list_models()")
    module = _construct(lambda: timm.create_model(name, pretrained=pretrained, num_classes=classes, **spec.args), spec)
    config = getattr(module, "pretrained_cfg", {}) or {}
    if not pretrained:
        return module, {}
    keys = {"input_size": config["input_size"][-1], "mean": config["mean"], "std": config["std"], "licence": config.get("license")}
    return module, keys


def _torchvision(name: str, spec: recipe.Network, classes: int, pretrained: bool) -> tuple[nn.Module, dict[str, Any]]:
    try:
        from torchvision import models
    except ImportError as error:
        raise MissingExtraError("torchvision", "workstation") from error
    known = models.list_models(module=models)
    if name not in known:
        raise ModelError(
            f"torchvision has no network {name!r}.{close_matches(name, known)} List them with torchvision.models.list_models()"
        )
    if not pretrained:
        return _construct(lambda: models.get_model(name, num_classes=classes, **spec.args), spec), {}
    module = _construct(lambda: models.get_model(name, weights="DEFAULT", **spec.args), spec)
    best = models.get_model_weights(name).DEFAULT
    if spec.new_head or classes != len(best.meta["categories"]):
        heads.replace(module, classes, whose=spec.model)
    transform = best.transforms()
    return module, {"input_size": transform.crop_size[0], "mean": transform.mean, "std": transform.std, "licence": "BSD-3-Clause"}


def _python(name: str, spec: recipe.Network, classes: int, pretrained: bool) -> tuple[nn.Module, dict[str, Any]]:
    module_name, _, function_name = name.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(
            f"cannot find {spec.model!r}: {error}; write python:MODULE:FUNCTION with a module that Python can import"
        ) from error
    module = _construct(lambda: function(num_classes=classes, **spec.args), spec)
    if not isinstance(module, nn.Module):
        raise ModelError(f"{spec.model} returned {type(module).__name__}, expected a torch.nn.Module")
    if pretrained:
        raise ModelError(f"{spec.model}: weights = 'pretrained' is for timm and torchvision; give the path of a safetensors file")
    return module, {}


def _construct(make: Callable[[], nn.Module], spec: recipe.Network) -> nn.Module:
    try:
        return make()
    except (TypeError, ValueError, AssertionError) as error:
        raise ModelError(f"{spec.model} cannot be built with args = {spec.args}: {error}") from error
    except (OSError, RuntimeError) as error:
        raise ModelError(f"{spec.model}: its weights cannot be had: {error}; check the network, or give a safetensors file") from error


def set_strides(module: nn.Module, strides: Sequence[int]) -> None:
    """Set the strides of the convolutions that halve the image, first to last; the rest keep theirs."""
    halving = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)]
    if len(strides) > len(halving):
        raise ModelError(f"strides has {len(strides)} entries, the network has {len(halving)} convolutions of stride 2")
    for layer, stride in zip(halving, strides, strict=False):
        layer.stride = (stride, stride)


def count(network: Network) -> tuple[int, int]:
    """Return (parameters, multiply-accumulates of convolutions and linear layers for one image)."""
    macs = 0

    def add(layer: nn.Module, _: Any, output: torch.Tensor) -> None:
        nonlocal macs
        weight = layer.weight
        macs += output[0].numel() * weight[0].numel() if isinstance(weight, torch.Tensor) else 0

    layers = [layer for layer in network.module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    try:
        answer_on_blank(network)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(parameter.numel() for parameter in network.module.parameters()), macs


def pretrained_outputs(spec: recipe.Network) -> int | None:
    """Return how many outputs a library's pretrained network has, None where it is not known."""
    kind, _, name = spec.model.partition(":")
    if kind == "timm":
        import timm

        config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
        return (config.num_classes or None) if config is not None else None
    names = pretrained_classes(spec)
    return len(names) if names is not None else None


def pretrained_classes(spec: recipe.Network) -> tuple[str, ...] | None:
    """Return the class names of a library's pretrained network (timm: ImageNet's), None where they are not known."""
    kind, _, name = spec.model.partition(":")
    if kind == "torchvision":
        from torchvision import models

        known = name in models.list_models(module=models)
        return tuple(models.get_model_weights(name).DEFAULT.meta["categories"]) if known else None
    if kind != "timm":
        return None
    from timm.data import ImageNetInfo, infer_imagenet_subset  # type: ignore[attr-defined]

    subset = infer_imagenet_subset({"num_classes": pretrained_outputs(spec)})
    if subset is None:
        return None
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(i) for i in range(info.num_classes()))


BUILDERS: dict[str, Callable[[str, recipe.Network, int, bool], tuple[nn.Module, dict[str, Any]]]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "python": _python,
}


def sha256_of_weights(module: nn.Module) -> str:
    """Return the SHA-256 of all tensors of a network with their names, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
