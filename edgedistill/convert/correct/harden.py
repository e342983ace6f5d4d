"""Students made hard to quantize on purpose, to prove what corrects them. Nothing that is shipped uses this.

Equalization backwards: channels get factors over orders of magnitude, and the layers that read them the inverse ones. The function
stays, to the bit, as the factors are powers of two. Values have one scale for all channels, so the small ones are rounded away.
"""

from __future__ import annotations

import torch

from edgedistill.convert.correct.channels import groups_of
from edgedistill.convert.correct.equalize import rescale, write
from edgedistill.convert.graph import Graph, copy_of
from edgedistill.convert.graph.batch_norm import weights_of


def made_hard(graph: Graph, seed: int, *, octaves: int = 6) -> Graph:
    """Return a copy of a graph that computes the same and loses accuracy in 8 bits.

    Args:
        seed: of the factors.
        octaves: the factors are drawn from 2**0 to 2**octaves. Channels behind a clip (ReLU6) keep theirs: the clip would
            cut them elsewhere.
    """
    result = copy_of(graph)
    generator = torch.Generator().manual_seed(seed)
    groups = [group for group in groups_of(result) if not group.clips]
    weights = {node: weights_of(result.module, node) for group in groups for node in (*group.writers, *group.readers)}
    for group in groups:
        channels = len(weights[group.writers[0]][0])
        rescale(group, weights, 2.0 ** torch.randint(octaves + 1, (channels,), generator=generator).double())
    write(result, weights)
    return result
