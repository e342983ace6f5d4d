"""The state of an unfinished training as one safetensors file: model, optimizer, random states, progress. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from lightning_fabric import Fabric
from torch import distributed, nn

from edgedistill.bundle import write_atomically
from edgedistill.errors import ModelError, RecipeError

PROGRESS_KEY = "progress"


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


def load(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, *, fabric: Fabric) -> dict[str, Any]:
    """Restore what `save` wrote and return the progress.

    Raises ModelError for a broken file, RecipeError for one of another number of processes, whose random states would not fit.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        progress, scalars = json.loads(metadata[PROGRESS_KEY]), json.loads(metadata["scalars"])
        check_processes(path, progress["processes"], fabric)
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


def check_processes(path: Path, processes: int, fabric: Fabric) -> None:
    """Raise RecipeError when a checkpoint is of another number of processes."""
    if processes != fabric.world_size:
        raise RecipeError(
            f"the checkpoint {path} is of a training by {processes} processes, now there are {fabric.world_size}; go on with {processes}, "
            "or start again without --resume"
        )
