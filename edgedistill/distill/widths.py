"""Networks with fewer channels than their name says: what is kept of them beside the weights, and building them again from it.

How the channels are chosen is the business of `pruning`; nothing here needs more than torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import torch
from torch import nn

from edgedistill.errors import ModelError
from edgedistill.recipe.kinds import Positive, Table

#: The attributes of a layer that say how wide it is.
ATTRIBUTES: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Conv2d: ("in_channels", "out_channels", "groups"),
    nn.BatchNorm2d: ("num_features",),
    nn.Linear: ("in_features", "out_features"),
}
#: From a layer's dotted name to those of its attributes that differ from the network of that name.
Widths = Mapping[str, Mapping[str, int]]
CARD_KEY = "pruned"


class Size(Table, frozen=True, kw_only=True):
    """How large a network is."""

    parameters: Positive
    macs: Positive


class Pruned(Table, frozen=True, kw_only=True):
    """What was taken out of a network; `ratio` is the fraction of the prunable channels, after rounding."""

    importance: str
    ratio: float
    before: Size
    widths: dict[str, dict[str, Positive]]


def of(module: nn.Module) -> dict[str, dict[str, int]]:
    """Return the widths of all layers that may have others."""
    return {name: of_layer(layer) for name, layer in module.named_modules() if _kind(layer) is not None}


def difference(before: Widths, after: Widths) -> dict[str, dict[str, int]]:
    """Return what of `after` is not as in `before`."""
    changed = {name: {key: value for key, value in widths.items() if value != before[name][key]} for name, widths in after.items()}
    return {name: widths for name, widths in changed.items() if widths}


def read(card: Mapping[str, Any], *, whose: str) -> Pruned | None:
    """Return what the card of a weights file says of pruning; ModelError where it is broken."""
    if CARD_KEY not in card:
        return None
    try:
        return msgspec.convert(card[CARD_KEY], Pruned)
    except msgspec.ValidationError as error:
        raise ModelError(f"{whose} has a broken card: {CARD_KEY}: {error}; train it again or copy it again") from error


def apply(module: nn.Module, widths: Widths, *, whose: str) -> None:
    """Make a network's layers as narrow as they were when the weights were saved, with fresh weights.

    Raises ModelError for a layer that the network lacks, and for one that would become wider.
    """
    layers = dict(module.named_modules())
    for name, changes in widths.items():
        layer = layers.get(name)
        own = of_layer(layer) if layer is not None else {}
        if wrong := [key for key, value in changes.items() if value > own.get(key, 0)]:
            found = f"{wrong[0]} = {own[wrong[0]]}" if wrong[0] in own else "no such layer"
            raise ModelError(
                f"{whose} is of a pruned network with {name}: {wrong[0]} = {changes[wrong[0]]}, this one has {found}; "
                "give the network and args that it was pruned from"
            )
        assert layer is not None
        for key, value in changes.items():
            setattr(layer, key, value)
        _renew(layer)


def can_be_cut(layer: nn.Module) -> bool:
    """Return whether channels can be taken out of a layer: a convolution in one group or depthwise, a batch norm, a linear layer."""
    if isinstance(layer, nn.Conv2d):
        return not layer.transposed and (layer.groups == 1 or is_depthwise(layer))
    return _kind(layer) is not None


def is_depthwise(layer: nn.Module) -> bool:
    """Return whether a layer is a convolution of each channel by itself."""
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels == layer.out_channels and layer.groups > 1


def keys_of(layer: nn.Module, side: str) -> tuple[str, ...]:
    """Return the attributes that change with the channels of a layer's side, "in" or "out"."""
    if is_depthwise(layer) or isinstance(layer, nn.BatchNorm2d):
        return _keys(layer)
    return tuple(key for key in _keys(layer) if key.startswith(f"{side}_"))


def dimensions(layer: nn.Module, side: str) -> dict[str, int]:
    """Return by tensor of a layer the dimension that holds the channels of one side, "in" or "out"."""
    if isinstance(layer, nn.BatchNorm2d):
        return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), 0)
    return {"weight": 0, "bias": 0} if side == "out" or is_depthwise(layer) else {"weight": 1}


def shapes(layer: nn.Module, wide: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a layer's tensors at other widths."""
    if isinstance(layer, nn.Conv2d):
        out = wide["out_channels"]
        return {"weight": (out, wide["in_channels"] // wide["groups"], *layer.kernel_size), "bias": (out,)}
    if isinstance(layer, nn.Linear):
        return {"weight": (wide["out_features"], wide["in_features"]), "bias": (wide["out_features"],)}
    return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (wide["num_features"],))


def of_layer(layer: nn.Module) -> dict[str, int]:
    """Return the widths of one layer, {} for one that has none."""
    return {key: getattr(layer, key) for key in _keys(layer)}


def _keys(layer: nn.Module) -> tuple[str, ...]:
    """Return the attributes that say how wide a layer is."""
    kind = _kind(layer)
    return ATTRIBUTES[kind] if kind is not None else ()


def _kind(layer: nn.Module) -> type[nn.Module] | None:
    return next((kind for kind in ATTRIBUTES if isinstance(layer, kind)), None)


def _renew(layer: nn.Module) -> None:
    """Replace the tensors of a layer by fresh ones of its width."""
    for name, shape in shapes(layer, of_layer(layer)).items():
        tensor = getattr(layer, name)
        if isinstance(tensor, nn.Parameter):
            setattr(layer, name, nn.Parameter(tensor.new_empty(shape)))
        elif isinstance(tensor, torch.Tensor):
            setattr(layer, name, tensor.new_empty(shape))
    layer.reset_parameters()  # type: ignore[operator]
