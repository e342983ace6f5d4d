"""A network in torch as a teacher: in evaluation mode, without gradient, never wrapped for the synchronization of gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from edgedistill.distill import networks, weights
from edgedistill.distill.loader import ViewBatch
from edgedistill.distill.networks import Network
from edgedistill.distill.taps import Taps
from edgedistill.distill.teachers.opening import Opened, Opening
from edgedistill.distill.teachers.teacher import Answers
from edgedistill.errors import ModelError, RecipeError
from edgedistill.recipe import Teacher as Spec


class NetworkTeacher:
    """A torch network that teaches."""

    def __init__(self, network: Network) -> None:
        self.network = network
        network.module.eval().requires_grad_(False)

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What is reported of it."""
        network = self.network
        parameters, macs = networks.count(network)
        return {
            "model": network.name,
            "sha256": network.sha256,
            "licence": network.licence,
            "input_size": network.input_size,
            "parameters": parameters,
            "macs": macs,
        }

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """What its answers depend on."""
        network = self.network
        normalization = {"input_size": network.input_size, "mean": list(network.mean), "std": list(network.std)}
        tensors = networks.sha256_of_weights(network.module)
        return {"model": network.name, "weights": tensors, "options": dict(network.options), **normalization}

    def to(self, device: torch.device) -> None:
        """Move the network."""
        self.network.module.to(device)

    def answer(self, batch: ViewBatch, layers: Sequence[str] = ()) -> Answers:
        """Return logits, and the outputs of `layers`."""
        taps = Taps(self.network.module, layers, whose="teacher")
        try:
            with torch.no_grad():
                device = next(self.network.module.parameters()).device
                logits = self.network.module(self.network.feed(batch.views.to(device))).float()
            return Answers(logits, dict(taps.outputs))
        finally:
            taps.remove()


def open_network(opening: Opening) -> Opened:
    """Build a torch network with the outputs that its weights have."""
    spec, classes = opening.spec, opening.splits.classes
    if spec.new_head:
        raise RecipeError(
            f"teacher.new_head: {spec.model} with a fresh last layer knows nothing that it could teach; "
            "take it out, or set probe = true instead, which trains one"
        )
    names = names_of(spec)
    if spec.weights == "pretrained":
        names = networks.pretrained_classes(spec) if names is None and spec.mapping else names
        outputs, wanted = networks.pretrained_outputs(spec), len(names or classes)
        if outputs not in (None, wanted):
            whose = "teacher.classes has" if spec.classes else "the data has"
            raise ModelError(
                f"the pretrained {spec.model} has {outputs} outputs, {whose} {wanted} classes; say which of its classes "
                "are which of the data's by teacher.mapping, or train a layer for these classes on its features: probe = true"
            )
    network = networks.build(spec, tuple(names) if names is not None else classes)
    return Opened(NetworkTeacher(network), len(network.classes or ()), names)


def names_of(spec: Spec) -> tuple[str, ...] | None:
    """Return the names of a network's outputs by its weights' card, or by the recipe where no card says them."""
    file = Path(spec.weights) if spec.weights and spec.weights != "pretrained" else None
    card = weights.read_card(file) if file is not None and file.is_file() else {}
    return tuple(card["classes"]) if "classes" in card else spec.classes
