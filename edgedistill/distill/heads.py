"""A network's head, the last layer that turns features into logits: found by name, replaced, taken off."""

from __future__ import annotations

from typing import Any

from torch import nn

from edgedistill.errors import ModelError


def names_of(module: nn.Module, *, whose: str) -> tuple[str, ...]:
    """Return the dotted names of the last layer: timm's classifier, elsewhere the last nn.Linear; ModelError without one."""
    heads: tuple[Any, ...]
    if callable(classifier := getattr(module, "get_classifier", None)):
        found = classifier()
        heads = tuple(found) if isinstance(found, tuple | list | nn.ModuleList) else (found,)
    else:
        heads = tuple(layer for layer in module.modules() if isinstance(layer, nn.Linear))[-1:]
    names = tuple(name for name, layer in module.named_modules() if any(layer is head for head in heads))
    if not names:
        raise ModelError(f"{whose} has no linear layer at its end, so its head cannot be told from the rest; use another network")
    return names


def linear_of(module: nn.Module, *, whose: str) -> tuple[str, nn.Linear]:
    """Return name and layer of a head that is one nn.Linear; ModelError for another."""
    names = names_of(module, whose=whose)
    head = module.get_submodule(names[-1])
    if len(names) != 1 or not isinstance(head, nn.Linear):
        raise ModelError(
            f"the head of {whose} ({', '.join(names)}) is not one linear layer, which is what is needed here; use another network"
        )
    return names[0], head


def put(module: nn.Module, name: str, layer: nn.Module) -> None:
    """Put a layer in the place of the one with this dotted name."""
    parent, _, last = name.rpartition(".")
    setattr(module.get_submodule(parent), last, layer)


def replace(module: nn.Module, classes: int, *, whose: str) -> None:
    """Replace the last linear layer by a fresh one with `classes` outputs."""
    name, head = linear_of(module, whose=whose)
    put(module, name, nn.Linear(head.in_features, classes, bias=head.bias is not None))
