"""A network in torch as a teacher: in evaluation mode, without gradient, never wrapped for the synchronization of gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from edgedistill.distill import networks
from edgedistill.distill.loader import ViewBatch
from edgedistill.distill.networks import Network
from edgedistill.distill.taps import Taps
from edgedistill.distill.teachers.teacher import Answers


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

    @property
    def identity(self) -> Mapping[str, Any]:
        """What its answers depend on."""
        network = self.network
        normalization = {"input_size": network.input_size, "mean": network.mean, "std": network.std}
        return {"model": network.name, "weights": networks.sha256_of_weights(network.module), **normalization}

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
