"""Batch norms folded into the convolutions in front of them, in double precision."""

from __future__ import annotations

import torch
from torch import fx

from edgedistill.convert.graph.rewrite import aten, clean, constant, new_constant


def fold(module: fx.GraphModule) -> None:
    """Fold every batch norm that follows a convolution or linear layer which nobody else reads; others stay as they are."""
    for norm in list(module.graph.nodes):
        if norm.target is not aten.batch_norm.default or norm.args[5]:  # in training it takes the batch's own statistics
            continue
        convolution = norm.args[0]
        if not has_weights(convolution) or len(convolution.users) != 1:
            continue
        weight, bias = folded(module, convolution, norm)
        set_weights(module, convolution, weight, bias=bias)
        norm.replace_all_uses_with(convolution)
        module.graph.erase_node(norm)
    clean(module)


def folded(module: fx.GraphModule, convolution: fx.Node, norm: fx.Node) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight (O, I, h, w) or (O, I) and bias (O,) of a layer with its batch norm, float64."""
    weight, bias = weights_of(module, convolution)
    # Its arguments: input, weight, bias, running mean, running variance, training, momentum, eps.
    scale, shift, mean, variance = (constant(module, node).double() if node is not None else None for node in norm.args[1:5])
    assert mean is not None
    assert variance is not None
    factor = torch.rsqrt(variance + float(norm.args[7]))  # type: ignore[arg-type]
    factor = factor if scale is None else factor * scale
    moved = (bias - mean) * factor
    return weight * factor.reshape(-1, *[1] * (weight.dim() - 1)), moved if shift is None else moved + shift


def has_weights(layer: fx.Node) -> bool:
    """Return whether a node is a convolution or linear layer whose weights are constants, not computed by other operators."""
    if layer.target not in (aten.conv2d.default, aten.linear.default):
        return False
    return all(part is None or part.op == "get_attr" for part in layer.args[1:3])  # type: ignore[union-attr]


def weights_of(module: fx.GraphModule, layer: fx.Node) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight and bias (zeros where there is none) of a convolution or linear layer, float64."""
    weight = constant(module, layer.args[1]).double()
    bias = layer.args[2] if len(layer.args) > 2 else None
    return weight, weight.new_zeros(len(weight)) if bias is None else constant(module, bias).double()


def set_weights(module: fx.GraphModule, layer: fx.Node, weight: torch.Tensor, *, bias: torch.Tensor) -> None:
    """Give a convolution or linear layer new weights; those it had may be others' as well and stay."""
    arguments = list(layer.args) + [None] * (3 - len(layer.args))
    arguments[1] = new_constant(module, f"{layer.name}_weight", weight, before=layer)
    arguments[2] = new_constant(module, f"{layer.name}_bias", bias, before=layer)
    layer.args = tuple(arguments)
