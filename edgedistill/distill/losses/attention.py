"""Attention transfer: where a layer is active (Zagoruyko and Komodakis 2017, "Paying More Attention to Attention", section 3.1)."""

from __future__ import annotations

import torch
from torch.nn import functional

from edgedistill.distill.losses.batch import Batch
from edgedistill.distill.losses.features import as_map, pairs, same_size
from edgedistill.recipe import Term

#: The authors' weight for the mean over positions, of which there are some hundred.
BETA = 1000.0


def attention(batch: Batch, term: Term) -> torch.Tensor:
    """Return beta · the mean squared difference of the attention maps, summed over the pairs of layers.

    It is the distance of eq. 2, squared and a mean over positions as in the authors' code.
    """
    beta = BETA if term.beta is None else term.beta
    maps = [same_size(energy(student), energy(teacher)) for student, teacher in pairs(batch, term)]
    losses = [functional.mse_loss(unit(student), unit(teacher)) for student, teacher in maps]
    return beta * torch.stack(losses).sum()


def energy(features: torch.Tensor) -> torch.Tensor:
    """Return the mean of squares over the channels (F² of section 3.1), (N, 1, H, W)."""
    return as_map(features).square().mean(dim=1, keepdim=True)


def unit(maps: torch.Tensor) -> torch.Tensor:
    """Return each sample's map as a vector of length 1, (N, H·W)."""
    return functional.normalize(maps.flatten(1))
