"""The outputs of a network's inner layers by dotted name, without a change to the network."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from edgedistill.errors import RecipeError, close_matches


class Taps:
    """Keeps the last outputs of the named layers in `outputs`; `remove` takes the hooks out again.

    Args:
        names: dotted names as in `module.named_modules()`; RecipeError for one that does not exist.
        whose: "student" or "teacher", for the error.
    """

    def __init__(self, module: nn.Module, names: Iterable[str], *, whose: str) -> None:
        self.outputs: dict[str, torch.Tensor] = {}
        layers = dict(module.named_modules())
        del layers[""]
        self._hooks = []
        for name in dict.fromkeys(names):
            if name not in layers:
                raise RecipeError(f"distill: the {whose} has no layer {name!r}.{close_matches(name, layers)} It has: {_outer(layers)}")
            self._hooks.append(layers[name].register_forward_hook(self._keep(name)))

    def _keep(self, name: str):  # type: ignore[no-untyped-def]
        def hook(layer: nn.Module, inputs: object, output: torch.Tensor) -> None:
            self.outputs[name] = output

        return hook

    def remove(self) -> None:
        """Take the hooks out."""
        for hook in self._hooks:
            hook.remove()


def _outer(layers: dict[str, nn.Module]) -> str:
    """Return the names of the layers down to the second level."""
    return ", ".join(name for name in layers if name.count(".") <= 1)
