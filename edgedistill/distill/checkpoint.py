"""The state of an unfinished training as one safetensors file: model, optimizer, random state, progress. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from edgedistill.bundle import write_atomically
from edgedistill.errors import ModelError

PROGRESS_KEY = "progress"


def save(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, progress: Mapping[str, Any]) -> None:
    """Write everything that the next step depends on; `progress` holds JSON values."""
    tensors = {f"model.{name}": tensor for name, tensor in module.state_dict().items()}
    scalars: dict[str, Any] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            target = tensors if isinstance(value, torch.Tensor) else scalars
            target[f"optimizer.{index}.{name}"] = value
    tensors["random"] = torch.get_rng_state()
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    metadata = {PROGRESS_KEY: json.dumps(dict(progress)), "scalars": json.dumps(scalars)}
    write_atomically(path, safetensors.torch.save(contiguous, metadata=metadata))


def load(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Restore what `save` wrote and return the progress; ModelError for a broken file."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        progress, scalars = json.loads(metadata[PROGRESS_KEY]), json.loads(metadata["scalars"])
        module.load_state_dict({name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")})
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"the checkpoint {path} cannot be used ({error}); start again without --resume") from error
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*tensors.items(), *scalars.items()]:
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["random"])
    return progress
