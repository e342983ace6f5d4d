"""Networks by name, with their weights and the preprocessing that belongs to the weights.

`timm:NAME`, `torchvision:NAME` and `python:MODULE:FUNCTION`. How a network is trained is `loop`'s business.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from edgedistill import recipe
from edgedistill.distill import weights
from edgedistill.errors import MissingExtraError, ModelError, close_matches


@dataclass(frozen=True)
class Network:
    """A network with the input it was made for; `mean` and `std` are RGB, 0 to 1; `classes` is None until they are known."""

    module: nn.Module
    name: str
    input_size: int
    mean: recipe.PerChannel
    std: recipe.PerChannel
    classes: tuple[str, ...] | None = None
    licence: str = "unknown"
    sha256: str = ""

    def feed(self, views_nhwc: torch.Tensor) -> torch.Tensor:
        """Return views as this network wants them: its own size and normalization, (N, 3, S, S) float32, channels last.

        Args:
            views_nhwc: (N, H, W, 3) uint8 RGB.
        """
        images = views_nhwc.permute(0, 3, 1, 2).float()
        if images.shape[2:] != (self.input_size, self.input_size):
            images = functional.interpolate(images, size=self.input_size, mode="bilinear", antialias=True)
        mean, std = (torch.tensor(value, device=images.device).view(1, 3, 1, 1) * 255 for value in (self.mean, self.std))
        return (images - mean) / std


def build(spec: recipe.Network, classes: tuple[str, ...]) -> Network:
    """Build a network with one output a class and load its weights.

    Raises ModelError for an unknown name, arguments it does not take, weights that do not fit, or other class names.
    """
    kind, _, name = spec.model.partition(":")
    if kind not in BUILDERS:
        known = "timm:NAME, torchvision:NAME or python:MODULE:FUNCTION"
        raise ModelError(f"unknown kind of network {spec.model!r}.{close_matches(kind, BUILDERS)} Write {known}")
    pretrained = spec.weights == "pretrained"
    module, card = BUILDERS[kind](name, spec, len(classes), pretrained)
    set_strides(module, spec.strides or [])
    loaded = weights.load_into(module, spec.weights, spec=spec, classes=classes) if spec.weights and not pretrained else None
    if loaded is not None:
        card |= {key: value for key, value in loaded.card.items() if key in ("input_size", "mean", "std", "licence")}
    return Network(
        module=module.to(memory_format=torch.channels_last),
        name=spec.model,
        input_size=spec.input_size or card.get("input_size", 224),
        mean=spec.mean or tuple(card.get("mean", recipe.HALF_MEAN)),
        std=spec.std or tuple(card.get("std", recipe.HALF_STD)),
        classes=classes,
        licence=spec.licence or card.get("licence") or "unknown",
        sha256=loaded.sha256 if loaded is not None else "",
    )


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
    _replace_head(module, classes)
    transform = models.get_model_weights(name).DEFAULT.transforms()
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


def _replace_head(module: nn.Module, classes: int) -> None:
    """Replace the last linear layer of a torchvision network by a fresh one with `classes` outputs."""
    name, head = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Linear)][-1]
    parent = module.get_submodule(name.rpartition(".")[0])
    setattr(parent, name.rpartition(".")[2], nn.Linear(head.in_features, classes))


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
    training = network.module.training
    try:
        with torch.inference_mode():
            parameter = next(network.module.parameters())
            network.module.eval()(torch.zeros(1, 3, network.input_size, network.input_size, device=parameter.device))
    finally:
        network.module.train(training)
        for hook in hooks:
            hook.remove()
    return sum(parameter.numel() for parameter in network.module.parameters()), macs


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
