"""The state of an unfinished training as one safetensors file: model, optimizer, random states, progress. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import safetensors
import safetensors.torch
import torch
from lightning_fabric import Fabric
from torch import distributed, nn

from edgedistill.bundle import write_atomically
from edgedistill.errors import ModelError, RecipeError
from edgedistill.recipe import Export, Recipe, Train, digest

PROGRESS_KEY = "progress"
#: Keys of `train` that may be others when a training goes on: how it is computed, not what.
MAY_CHANGE = ("workers", "threads", "accumulate", "compile", "checkpoint_steps", "loggers", "snapshots", "devices", "nodes")


def digest_of_training(recipe: Recipe) -> str:
    """Return the digest of what a training is, without the keys that may be others when it goes on."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(Train) if field.name in MAY_CHANGE}
    return digest(msgspec.structs.replace(recipe, train=msgspec.structs.replace(recipe.train, **defaults), export=Export()))


def random_states(fabric: Fabric) -> dict[str, torch.Tensor]:
    """Return the random states of all processes, (processes, bytes) uint8 by the kind of device; all must call it together."""
    states = {"cpu": torch.get_rng_state()}
    if fabric.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(fabric.device)
    gathered: list[Any] = [states]
    if fabric.world_size > 1:
        gathered = [None] * fabric.world_size
        distributed.all_gather_object(gathered, states)
    return {name: torch.stack([each[name] for each in gathered]) for name in states}


def save(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, *, progress: Mapping[str, Any], random: Mapping[str, torch.Tensor]
) -> None:
    """Write everything that the next step depends on; `progress` holds JSON values, `random` what `random_states` returned."""
    tensors = {f"model.{name}": tensor for name, tensor in module.state_dict().items()}
    scalars: dict[str, Any] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            target = tensors if isinstance(value, torch.Tensor) else scalars
            target[f"optimizer.{index}.{name}"] = value
    tensors |= {f"random.{name}": state for name, state in random.items()}
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    metadata = {PROGRESS_KEY: json.dumps(dict(progress)), "scalars": json.dumps(scalars)}
    write_atomically(path, safetensors.torch.save(contiguous, metadata=metadata))


def load(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, *, recipe: Recipe, fabric: Fabric) -> dict[str, Any]:
    """Restore what `save` wrote and return the progress.

    Raises ModelError for a broken file, RecipeError for one of another training or number of processes, whose random states would not fit.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        progress, scalars = json.loads(metadata[PROGRESS_KEY]), json.loads(metadata["scalars"])
        check_same(path, progress, recipe, fabric)
        module.load_state_dict({name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")})
        random = {name.removeprefix("random."): t[fabric.global_rank].clone() for name, t in tensors.items() if name.startswith("random.")}
    except (OSError, safetensors.SafetensorError, KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"the checkpoint {path} cannot be used ({error}); start again without --resume") from error
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*tensors.items(), *scalars.items()]:
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    fabric.strategy.precision.load_state_dict(progress.pop("scaler"))
    torch.set_rng_state(random["cpu"])
    if "cuda" in random and fabric.device.type == "cuda":
        torch.cuda.set_rng_state(random["cuda"], fabric.device)
    return progress


def check_same(path: Path, progress: Mapping[str, Any], recipe: Recipe, fabric: Fabric) -> None:
    """Raise RecipeError when a checkpoint is of another training, or of another number of processes."""
    if progress["recipe"] != digest_of_training(recipe):
        free = ", ".join(f"train.{name}" for name in MAY_CHANGE if name not in ("devices", "nodes"))
        raise RecipeError(
            f"the checkpoint in {path.parent} is of another recipe; give the same recipe and --set, or another --out (only {free} and "
            "the table export may be others)"
        )
    if progress["processes"] != fabric.world_size:
        raise RecipeError(
            f"the checkpoint {path} is of a training by {progress['processes']} processes, now there are {fabric.world_size}; go on with "
            f"{progress['processes']}, or start again with another --out"
        )
