"""A network's weights as one safetensors file, with a card in its header: preprocessing and class names travel with them.

Only the named network's own tensors are written, so a student's file holds nothing of its teacher. Nothing is unpickled.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import nn

from edgedistill import recipe
from edgedistill.bundle import sha256_of, write_atomically
from edgedistill.distill import heads, widths
from edgedistill.distill.class_names import difference
from edgedistill.errors import ModelError

CARD_KEY = "edgedistill"


class Loaded(NamedTuple):
    """What `load_into` found beside the tensors."""

    card: dict[str, Any]
    sha256: str
    pruned: widths.Pruned | None


def save(module: nn.Module, path: Path, card: dict[str, Any], *, half: bool = False) -> None:
    """Write a module's tensors and a card (JSON values) to `path` in one step; `half` stores floats as float16."""
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in module.state_dict().items()}
    if half:
        tensors = {name: tensor.half() if tensor.dtype == torch.float32 else tensor for name, tensor in tensors.items()}
    write_atomically(path, safetensors.torch.save(tensors, metadata={CARD_KEY: json.dumps(card)}))


def read_card(path: Path) -> dict[str, Any]:
    """Return the card in a weights file's header, {} for a file of another maker."""
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, 100_000_000)))
        card = json.loads(header.get("__metadata__", {}).get(CARD_KEY, "{}"))
        if not isinstance(card, dict):
            raise ValueError(f"its card is {str(card)[:40]!r}, expected an object")
        return card
    except (OSError, struct.error, ValueError, AttributeError, TypeError, RecursionError, OverflowError) as error:
        raise ModelError(f"{path} is not a readable safetensors file ({error}); train it again or copy it again") from error


def load_into(module: nn.Module, file: str, *, spec: recipe.Network, classes: tuple[str, ...]) -> Loaded:
    """Load a safetensors file into a module, strictly: every tensor must be there and fit; with `spec.new_head`, all but the last layer.

    Where the card says that the network was pruned, the module becomes as thin first.
    Raises ModelError for a missing or broken file, other tensors or shapes, or other class names.
    """
    path = Path(file)
    if not path.is_file():
        raise ModelError(f"the weights file {path} of {spec.model} does not exist; train it, or give another path")
    card = read_card(path)
    if "classes" in card and not spec.new_head and (wrong := difference(card["classes"], classes, whose="weights")):
        raise ModelError(f"{path} was trained on {wrong}Use weights of this data, or new_head = true for all but their last layer")
    try:
        tensors = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path} is not a readable safetensors file ({error}); train it again or copy it again") from error
    if (pruned := widths.read(card, whose=str(path))) is not None:
        widths.apply(module, pruned.widths, whose=str(path))
    wanted = module.state_dict()
    if spec.new_head:
        last = tuple(f"{name}." for name in heads.names_of(module, whose=spec.model))
        wanted, tensors = ({name: tensor for name, tensor in part.items() if not name.startswith(last)} for part in (wanted, tensors))
    elif problem := _other_outputs(module, tensors):
        raise ModelError(f"the weights {path} have {problem}; use weights of this data, or new_head = true for all but their last layer")
    if problem := _mismatch(wanted, tensors):
        made_for = f" (made for {card['model']})" if "model" in card else ""
        raise ModelError(
            f"the weights {path}{made_for} do not fit {spec.model}: {problem}; give the network and args they were trained with"
        )
    floats = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    module.load_state_dict(floats, strict=not spec.new_head)
    return Loaded(card, sha256_of(path), pruned)


def _other_outputs(module: nn.Module, found: dict[str, torch.Tensor]) -> str | None:
    """Return both numbers of classes where only the last layer's outputs differ from the module's."""
    wanted = module.state_dict()
    if wanted.keys() != found.keys():
        return None
    others = {name for name, tensor in wanted.items() if tensor.shape != found[name].shape}
    if not others or any(wanted[name].shape[1:] != found[name].shape[1:] for name in others):
        return None
    last = [name for name in heads.names_of(module, whose="the network") if f"{name}.weight" in others]
    if not last or not all(name.startswith(f"{last[0]}.") for name in others):
        return None
    return f"{len(found[f'{last[0]}.weight'])} outputs, the data has {len(wanted[f'{last[0]}.weight'])} classes"


def _mismatch(wanted: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> str | None:
    if missing := sorted(wanted.keys() - found.keys()):
        return f"{len(missing)} tensors are missing, the first: {missing[0]}"
    if extra := sorted(found.keys() - wanted.keys()):
        return f"{len(extra)} tensors are too many, the first: {extra[0]}"
    for name, tensor in wanted.items():
        if tensor.shape != found[name].shape:
            return f"{name} has shape {tuple(found[name].shape)}, expected {tuple(tensor.shape)}"
    return None
