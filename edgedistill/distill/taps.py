"""The outputs of a network's inner layers by dotted name, without a change to the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable

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
        self.whose, self.names = whose, tuple(dict.fromkeys(names))
        self.outputs: dict[str, torch.Tensor] = {}
        layers = dict(module.named_modules())
        del layers[""]
        if unknown := [name for name in self.names if name not in layers]:
            name = unknown[0]
            raise RecipeError(f"distill: the {whose} has no layer {name!r}.{close_matches(name, layers)} It has: {_outer(layers)}")
        self._hooks = [layers[name].register_forward_hook(self._keep(name)) for name in self.names]

    def _keep(self, name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(layer: nn.Module, inputs: object, output: object) -> None:
            if not isinstance(output, torch.Tensor):
                given = f"the layer {name!r} of the {self.whose} returns a {type(output).__name__}"
                raise RecipeError(f"distill: {given}, expected one tensor; name a layer inside of it or after it")
            self.outputs[name] = output.clone()  # what follows may work in place, such as an activation

        return hook

    def take(self) -> dict[str, torch.Tensor]:
        """Return the outputs and keep none; RecipeError for a layer that the network did not use."""
        taken = dict(self.outputs)
        self.outputs.clear()
        if unused := [name for name in self.names if name not in taken]:
            raise RecipeError(f"distill: the {self.whose} does not use its layer {unused[0]!r}; name one that an image passes through")
        return taken

    def remove(self) -> None:
        """Take the hooks out."""
        for hook in self._hooks:
            hook.remove()


def _outer(layers: dict[str, nn.Module]) -> str:
    """Return the names of the layers down to the second level."""
    return ", ".join(name for name in layers if name.count(".") <= 1)
