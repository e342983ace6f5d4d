"""Which channels of a network can only go together, and what they count: residual sums, depthwise convolutions and
squeeze-and-excite tie layers to each other. Found by torch-pruning; taking them out is the business of `pruning`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from edgedistill.distill import heads, widths
from edgedistill.distill.networks import Network
from edgedistill.errors import MissingExtraError, ModelError, RecipeError, close_matches
from edgedistill.recipe import Prune


class Member(NamedTuple):
    """Where a layer holds the channels of a group: its number `channels[i]` is the group's number `roots[i]`."""

    layer: str
    side: Literal["in", "out"]
    channels: tuple[int, ...]
    roots: tuple[int, ...]


class Group(NamedTuple):
    """Channels through all layers that share them: the layer that they start from, their scores, and where they are."""

    layer: str
    scores: torch.Tensor
    members: tuple[Member, ...]


def groups_of(network: Network, spec: Prune, *, seed: int) -> tuple[Group, ...]:
    """Return the channels that may go, with their scores, whose mean is 1 in each group; the network stays as it is.

    Raises ModelError for a network that cannot be followed or has none, RecipeError for layers of `spec.ignore` that it lacks.
    """
    graph = _graph_of(network)
    score = _importance(spec.importance)
    names = {layer: name for name, layer in network.module.named_modules()}
    kept = _kept(network, spec.ignore)
    found = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for group in graph.get_all_groups(ignored_layers=kept, root_module_types=[nn.Conv2d, nn.Linear]):
            members = _members(graph, group, names)
            scores = score(group) if members is not None else None
            if members is not None and scores is not None:  # None: no batch norm says what these channels count
                found.append(Group(names[group[0].dep.target.module], scores.detach().cpu().float(), members))
    if not found:
        raise ModelError(
            f"{network.name} has no channels that can be pruned; leave layers out of student.prune.ignore, or take another network"
        )
    return tuple(found)


def _importance(name: str) -> Any:
    from torch_pruning import importance

    kinds = {
        "l2": importance.GroupMagnitudeImportance,
        "batch_norm": importance.BNScaleImportance,
        "random": importance.RandomImportance,
    }
    return kinds[name]()


def _graph_of(network: Network) -> Any:
    """Return torch-pruning's graph of a network's layers."""
    try:
        import torch_pruning
    except ImportError as error:
        raise MissingExtraError("torch-pruning", "workstation") from error
    module = network.module
    device = next((parameter.device for parameter in module.parameters()), None)
    example = torch.zeros(1, 3, network.input_size, network.input_size, device=device)
    training = module.training
    try:
        with torch.enable_grad():
            return torch_pruning.DependencyGraph().build_dependency(module.eval(), example_inputs=example, verbose=False)
    except Exception as error:  # the tracer raises whatever it stumbles over
        raise ModelError(
            f"{network.name} cannot be pruned: its layers cannot be followed ({error}); prune a timm or torchvision network"
        ) from error
    finally:
        module.train(training)


def _kept(network: Network, ignore: Sequence[str]) -> list[nn.Module]:
    """Return the layers whose channels stay: those of `ignore`, the first convolution and the head."""
    layers = dict(network.module.named_modules())
    if unknown := [name for name in ignore if name not in layers]:
        raise RecipeError(f"student.prune.ignore: {network.name} has no layer {unknown[0]!r}.{close_matches(unknown[0], layers)}")
    inside = [layer for name in ignore for layer in layers[name].modules()]
    stem = [layer for layer in layers.values() if isinstance(layer, nn.Conv2d)][:1]
    return [*inside, *stem, *(layers[name] for name in heads.names_of(network.module, whose=network.name))]


def _members(graph: Any, group: Any, names: dict[nn.Module, str]) -> tuple[Member, ...] | None:
    """Return where a group's channels are; None when they are in a tensor that cannot be cut, so that they all have to stay."""
    members = []
    for item in group.items:
        module = item.dep.target.module
        if isinstance(module, nn.Parameter):
            return None
        if module not in names or not module.state_dict():  # an operation or an activation: nothing to cut
            continue
        if not widths.can_be_cut(module) or any(root is None for root in item.root_idxs):
            return None
        side: Literal["in", "out"] = "out" if graph.is_out_channel_pruning_fn(item.dep.handler) else "in"
        members.append(Member(names[module], side, tuple(map(int, item.idxs)), tuple(map(int, item.root_idxs))))
    return tuple(members)
