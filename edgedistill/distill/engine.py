"""The Fabric that a training runs on: one process or many, on this machine or on several."""

from __future__ import annotations

import os

from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from edgedistill.distill.loader import Share
from edgedistill.errors import RecipeError
from edgedistill.recipe import Recipe, Train


def open_fabric(recipe: Recipe) -> Fabric:
    """Return a launched Fabric; under `torchrun` or `fabric run` the numbers of processes and machines are theirs."""
    settings = recipe.train
    devices = int(os.environ.get("LOCAL_WORLD_SIZE", settings.devices))
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", settings.nodes))
    # a term that counts in some epochs only leaves parameters without a gradient in others
    strategy = DDPStrategy(find_unused_parameters=any(term.epochs for term in recipe.distill)) if devices * nodes > 1 else "auto"
    fabric = Fabric(accelerator=settings.accelerator, devices=devices, num_nodes=nodes, precision=settings.precision, strategy=strategy)
    fabric.launch()
    return fabric


def share_of(fabric: Fabric, settings: Train) -> Share:
    """Return this process's share of each batch; RecipeError when a batch cannot be shared evenly."""
    parts = fabric.world_size * settings.accumulate
    if settings.batch_size % parts:
        raise RecipeError(
            f"train.batch_size {settings.batch_size} cannot be shared evenly by {fabric.world_size} processes in {settings.accumulate} "
            f"pieces; make it a multiple of {parts}"
        )
    return Share(fabric.global_rank, fabric.world_size, settings.accumulate)
