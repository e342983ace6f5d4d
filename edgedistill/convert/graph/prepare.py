"""A student to a graph of operators, its batch norms and its normalization folded into the weights.

What the graph takes is a pixel minus one whole number, `pixel_mean`, the same for all channels: stored in 8 bits with that
number as zero point, a camera's byte is the input. How the graph becomes a file is left to the writers.
"""

from __future__ import annotations

import contextlib
import copy
import io
from dataclasses import dataclass

import torch
from torch import fx, nn

from edgedistill.bundle import Preprocess
from edgedistill.convert.graph import batch_norm, checks, normalization, rewrite
from edgedistill.convert.quiet import quietly
from edgedistill.errors import ConvertError
from edgedistill.recipe import PerChannel


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A student ready to be written.

    Args:
        module: takes (N, H, W, 3) float32 RGB pixels minus `pixel_mean`, returns (N, classes) logits; its nodes are ATen operators.
        spec: how frames are brought to (H, W).
        pixel_mean: 0 to 255.
        classes: number of logits.
        layers: by node, the dotted name of the student's layer that it comes from.
        folded: whether normalization is in the weights; otherwise it stands in front of the network.
    """

    module: fx.GraphModule
    spec: Preprocess
    pixel_mean: int
    classes: int
    layers: dict[str, str]
    folded: bool


class _Normalized(nn.Module):
    """A student behind its normalization, channels last in front of it."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, *, mean: torch.Tensor, std: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, pixels_nhwc: torch.Tensor) -> torch.Tensor:
        # Normalized before the channels move: so the TFLite converter, which moves them back, finds nothing in its way.
        logits: torch.Tensor = self.network(((pixels_nhwc - self.mean) / self.std).permute(0, 3, 1, 2))
        return logits


def prepare(student: nn.Module, spec: Preprocess, *, mean: PerChannel, std: PerChannel, classes: int) -> Graph:
    """Return a graph of the student in evaluation mode on the CPU; the student stays as it is.

    Args:
        student: takes normalized float32 (N, 3, H, W) and returns logits (N, classes).
        mean: of the normalization, RGB, 0 to 1.
        std: of the normalization, RGB, 0 to 1.

    Raises ConvertError for weights that are not finite, for an input that is not raw RGB pixels, for a network that fails on
    such an input or does not return (1, classes), for one whose operations depend on what it sees or on how many images there
    are, and for one whose graph does not answer like it.
    """
    if spec.mean is not None or spec.color != "RGB":
        raise ConvertError(
            f"the files take raw RGB pixels, got color = {spec.color!r}, mean = {spec.mean}; "
            "leave mean and std out of the preprocessing, they go into the graph"
        )
    checks.check_weights(student)
    network = copy.deepcopy(student).cpu().float().eval().requires_grad_(False).to(memory_format=torch.contiguous_format)
    pixel_mean, offsets, deviations = normalization.in_pixels(mean, std)
    wrapped = _Normalized(network, mean=offsets, std=deviations).eval()
    noise = _noise(spec) - pixel_mean
    with quietly():  # what torch advises is no failure
        checks.check_output(wrapped, noise[:1], classes)
    module = _trace(wrapped, spec)
    folded = _simplify(module, pixel_mean)
    layers = _label(module)
    checks.check_operators(module, layers)
    with quietly():
        checks.check_answers(module, wrapped, noise)
    return Graph(module=module, spec=spec, pixel_mean=pixel_mean, classes=classes, layers=layers, folded=folded)


def _simplify(module: fx.GraphModule, pixel_mean: int) -> bool:
    """Bring a traced network to the operators that files have; return whether its normalization is in the weights."""
    rewrite.functional(module)
    rewrite.drop_what_does_nothing(module)
    rewrite.fold_constants(module)
    rewrite.spell_out_hard_sigmoid(module)
    rewrite.spell_out_same_padding(module)
    batch_norm.fold(module)
    return normalization.fold(module, pixel_mean)


def _label(module: fx.GraphModule) -> dict[str, str]:
    """Return each operator's layer, and put its own name where tracers keep the stack trace; `blame` reads it there."""
    layers = {}
    for node in module.graph.nodes:
        if node.op == "call_function":
            layers[node.name] = _layer_of(node)
            node.meta["stack_trace"] = f"edgedistill node {node.name}"
    return layers


def _noise(spec: Preprocess) -> torch.Tensor:
    """Return three images of random pixels (3, H, W, 3), the same each time."""
    return torch.randint(256, (3, spec.height, spec.width, 3), generator=torch.Generator().manual_seed(0)).float()


def copy_of(graph: Graph) -> Graph:
    """Return a graph with weights of its own, to change them."""
    return Graph(**{**vars(graph), "module": copy.deepcopy(graph.module)})


def example(spec: Preprocess, count: int = 1) -> torch.Tensor:
    """Return centred pixels (count, H, W, 3) to trace a graph with."""
    return torch.zeros(count, spec.height, spec.width, 3)


def _trace(network: nn.Module, spec: Preprocess) -> fx.GraphModule:
    batch = torch.export.Dim("batch", min=1)
    try:
        with quietly(), contextlib.redirect_stderr(io.StringIO()):  # the tracer prints the graph that it has when it fails
            program = torch.export.export(network, (example(spec, 2),), dynamic_shapes=({0: batch},))
            module = program.module(check_guards=False)
            if rewrite.shares_memory(module):
                module = program.run_decompositions({}).module(check_guards=False)
                rewrite.whole_batch_norms(module)
    except Exception as error:  # the tracer raises classes of its own, some straight from Exception
        raise ConvertError(f"the student cannot be written as one graph of operators: {checks.why_not_traced(error)}") from error
    module._forward_pre_hooks.clear()  # they check the input's shape in Python, which no file does
    return module


def _layer_of(node: fx.Node) -> str:
    names = [name for name, _ in (node.meta.get("nn_module_stack") or {}).values()]
    # Every name starts with the attribute of `_Normalized`; functionalization writes a word of its own where there is no layer.
    return str(names[-1]).removeprefix("network.") if names and str(names[-1]).startswith("network.") else ""
