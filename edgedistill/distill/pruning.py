"""Structured pruning: whole channels are taken out of a trained network, those that count least of all its layers.

What is left is trained again by distillation; `widths` builds it again from its file. A network's size at any ratio is
known without cutting it, so that a target is searched in no time.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import torch
from torch import nn

from edgedistill import recipe
from edgedistill.distill import networks, widths
from edgedistill.distill.channels import Group, groups_of
from edgedistill.distill.networks import Network
from edgedistill.distill.widths import Pruned, Size
from edgedistill.errors import ModelError, RecipeError
from edgedistill.recipe import Prune

#: No layer loses more than this, so that none is cut off.
MOST = 0.9
#: How finely a ratio is searched.
STEPS = 20

#: By layer and side ("in" or "out"), the numbers of the channels to take out.
Removed = Mapping[tuple[str, str], set[int]]


@dataclass(frozen=True)
class Plan:
    """A network whose channels are ranked: what any ratio would make of it.

    Args:
        positions: by layer, the pixels that it computes for one image, of all its calls.
        size: of the network as it is.
    """

    network: Network
    spec: Prune
    groups: tuple[Group, ...]
    positions: Mapping[str, int]
    size: Size


def check(student: recipe.Student) -> None:
    """Raise RecipeError for a student that is to be pruned and has nothing to prune, or a target that is not resolved yet."""
    prune = student.prune
    if prune is None:
        return
    if not student.weights:
        raise RecipeError(
            "student.prune without student.weights: channels are chosen by their weights; train the whole student first and give "
            "student.weights = 'RUN/student.safetensors', or 'pretrained'"
        )
    if prune.ratio is None and prune.macs is None:
        name = "bytes" if prune.bytes is not None else "latency_ms"
        raise RecipeError(
            f"student.prune.{name} needs exported files to find its ratio, which edgedistill distill does; give ratio or macs here"
        )


def prune(network: Network, spec: Prune, *, seed: int = 0) -> Network:
    """Return a thinner copy of a network with the weights that it keeps; `spec` has a ratio or the target `macs`.

    Args:
        seed: of the importance `random`.

    Raises ModelError for a network that cannot be pruned, RecipeError for layers that it lacks and for a target out of reach.
    """
    plan = plan_of(network, spec, seed=seed)
    if spec.ratio is not None:
        return thin(plan, spec.ratio)
    assert spec.macs is not None
    most = spec.macs * plan.size.macs
    return thin(plan, smallest_ratio(plan, lambda size: size.macs <= most, target=f"macs = {spec.macs}"))


def plan_of(network: Network, spec: Prune, *, seed: int = 0) -> Plan:
    """Rank the channels of a network."""
    parameters, macs = networks.count(network)
    groups = groups_of(network, spec, seed=seed)
    return Plan(network, spec, groups, _positions(network), Size(parameters=parameters, macs=macs))


def smallest_ratio(plan: Plan, fits: Callable[[Size], bool], *, target: str) -> float:
    """Return the smallest ratio whose network fits, by bisection; RecipeError when the thinnest one does not."""
    low, high = 0.0, MOST
    if not fits(thinnest := size_at(plan, high)):
        raise RecipeError(
            f"student.prune: {target} cannot be reached: the thinnest {plan.network.name} has {thinnest.macs:,} multiply-accumulates "
            f"({thinnest.macs / plan.size.macs:.1%}) and {thinnest.parameters:,} parameters; allow more, make round_to or ignore "
            "smaller, or take a smaller network"
        )
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(size_at(plan, middle)) else (middle, high)
    return high


def size_at(plan: Plan, ratio: float) -> Size:
    """Return how large the network is without this fraction of its channels."""
    changed = _widths_without(plan.network.module, removed_at(plan, ratio))
    parameters, macs = plan.size.parameters, plan.size.macs
    for name, new in changed.items():
        layer = plan.network.module.get_submodule(name)
        old = widths.of_layer(layer)
        smaller = widths.shapes(layer, {**old, **new})
        trained = dict(layer.named_parameters(recurse=False))
        parameters -= sum(tensor.numel() - math.prod(smaller[key]) for key, tensor in trained.items())
        if name in plan.positions:
            macs -= plan.positions[name] * (trained["weight"].numel() - math.prod(smaller["weight"]))
    return Size(parameters=parameters, macs=macs)


def thin(plan: Plan, ratio: float) -> Network:
    """Return a copy of the network without this fraction of its channels; ModelError when it does not run without them."""
    network, removed = plan.network, removed_at(plan, ratio)
    changed = _widths_without(network.module, removed)
    module = copy.deepcopy(network.module)
    with torch.random.fork_rng(devices=[]):
        widths.apply(module, changed, whose=network.name)
    module.load_state_dict(_cut(network.module, removed))
    former = network.pruned.widths if network.pruned is not None else {}
    gone = sum(map(len, lowest(plan.groups, ratio, round_to=plan.spec.round_to).values()))
    pruned = Pruned(
        importance=plan.spec.importance,
        ratio=gone / sum(len(group.scores) for group in plan.groups),
        before=plan.size,
        widths={name: {**former.get(name, {}), **changed.get(name, {})} for name in {**former, **changed}},
    )
    thinner = replace(network, module=module.to(memory_format=torch.channels_last), pruned=pruned)
    try:
        networks.count(thinner)
    except RuntimeError as error:
        raise ModelError(
            f"{network.name} cannot be pruned: it does not run without its channels ({error}); put the layer that it fails in into "
            "student.prune.ignore, or prune another network"
        ) from error
    return thinner


def facts(pruned: Pruned) -> dict[str, Any]:
    """Return what results.json says of a pruned network: everything but the widths, which travel with its weights."""
    return {"importance": pruned.importance, "ratio": round(pruned.ratio, 4), "before": msgspec.to_builtins(pruned.before)}


def removed_at(plan: Plan, ratio: float) -> dict[tuple[str, str], set[int]]:
    """Return what of each layer goes at a ratio."""
    going = lowest(plan.groups, ratio, round_to=plan.spec.round_to)
    removed: dict[tuple[str, str], set[int]] = {}
    for number, lost in going.items():
        for member in plan.groups[number].members:
            numbers = {channel for channel, root in zip(member.channels, member.roots, strict=True) if root in lost}
            removed.setdefault((member.layer, member.side), set()).update(numbers)
    return removed


def lowest(groups: Sequence[Group], ratio: float, *, round_to: int) -> dict[int, set[int]]:
    """Return the channels to remove by the number of their group: the lowest scores of all, so that multiples of `round_to` are left."""
    scores = torch.cat([group.scores for group in groups])
    gone = torch.zeros(len(scores), dtype=torch.bool)
    gone[torch.argsort(scores, stable=True)[: int(ratio * len(scores))]] = True
    removed = {}
    for number, (group, lost) in enumerate(zip(groups, gone.split([len(group.scores) for group in groups]), strict=True)):
        width = len(group.scores)
        left = _rounded(width, width - int(lost.sum()), round_to)
        if left < width:
            removed[number] = set(torch.argsort(group.scores, stable=True)[: width - left].tolist())
    return removed


def _rounded(width: int, left: int, step: int) -> int:
    """Return the multiple of `step` nearest to `left`, not above `width` and neither 0 nor less than a tenth of it."""
    if left == width:
        return width
    least = max(step, math.ceil(round(width * (1 - MOST) / step, 6)) * step)
    return min(width, max(least, math.floor(left / step + 0.5) * step))


def _positions(network: Network) -> dict[str, int]:
    """Return by layer the number of pixels that it computes for one image; a linear layer computes one."""
    positions: dict[str, int] = {}
    names: dict[nn.Module, str] = {}
    for name, layer in network.module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            names[layer] = name

    def add(layer: nn.Module, _: Any, output: torch.Tensor) -> None:
        width = layer.out_channels if isinstance(layer, nn.Conv2d) else output.shape[-1]
        positions[names[layer]] = positions.get(names[layer], 0) + output[0].numel() // int(width)

    hooks = [layer.register_forward_hook(add) for layer in names]
    try:
        networks.answer_on_blank(network)
    finally:
        for hook in hooks:
            hook.remove()
    return positions


def _widths_without(module: nn.Module, removed: Removed) -> dict[str, dict[str, int]]:
    """Return the widths that layers have without the removed channels, those that change."""
    changed: dict[str, dict[str, int]] = {}
    for (name, side), channels in removed.items():
        layer = module.get_submodule(name)
        for key in widths.keys_of(layer, side):
            changed.setdefault(name, {})[key] = getattr(layer, key) - len(channels)
    return changed


def _cut(module: nn.Module, removed: Removed) -> dict[str, torch.Tensor]:
    """Return a network's tensors without the removed channels."""
    tensors = dict(module.state_dict())
    for (name, side), channels in removed.items():
        layer = module.get_submodule(name)
        for key, dimension in widths.dimensions(layer, side).items():
            if f"{name}.{key}" in tensors:
                tensor = tensors[f"{name}.{key}"]
                left = [number for number in range(tensor.shape[dimension]) if number not in channels]
                tensors[f"{name}.{key}"] = tensor.index_select(dimension, torch.tensor(left, device=tensor.device))
    return tensors
