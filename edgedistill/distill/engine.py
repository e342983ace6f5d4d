"""The Fabric that a training runs on: one process or many, on this machine or on several, and what they do together.

A failure in one process must not leave the others waiting: work outside of the training steps is done inside `together` or `first`,
which end all processes when one fails. The first process alone speaks and writes; the folder of the run is one that all can read.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators.cuda import CUDAAccelerator
from lightning_fabric.accelerators.mps import MPSAccelerator
from lightning_fabric.plugins.precision import MixedPrecision
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_fabric.utilities.rank_zero import rank_zero_only
from torch import distributed

from edgedistill.distill.loader import Share
from edgedistill.errors import EdgeDistillError, RecipeError, TrainingError
from edgedistill.recipe import Recipe, Train

T = TypeVar("T")
#: How long a process waits for the others; one that died is noticed at once, and testing a large teacher may take long.
PATIENCE = timedelta(hours=2)
#: What the first process gets to say what happened: torchrun ends it as soon as another one has ended.
GRACE_S = 5.0


class Mixed(MixedPrecision):
    """Mixed precision of the network alone: what it is given stays as it is, so that the teacher's answers keep their precision."""

    def convert_input(self, data: Any) -> Any:
        """Return the inputs; autocast converts them where an operation wants it."""
        return data


def open_fabric(recipe: Recipe) -> Fabric:
    """Return a launched Fabric; under `torchrun` or `fabric run` the numbers of processes and machines are theirs."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # which process is which is no news to a person
    settings = recipe.train
    devices = int(os.environ.get("LOCAL_WORLD_SIZE", settings.devices))
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", settings.nodes))
    if devices > 1:
        check_can_launch(devices)
    # a term that counts in some epochs only, or never, leaves parameters without a gradient in others
    unused = any(term.epochs or term.weight == 0 for term in recipe.distill)
    strategy = DDPStrategy(find_unused_parameters=unused, timeout=PATIENCE) if devices * nodes > 1 else "auto"
    try:
        fabric = Fabric(
            accelerator=settings.accelerator, devices=devices, num_nodes=nodes, strategy=strategy, plugins=precision_of(settings)
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        wanted = f"train.accelerator {settings.accelerator!r} with {devices} devices"
        raise RecipeError(f"{wanted} cannot be had here: {' '.join(str(error).split())}; lower train.devices or name another") from error
    if "LT_CLI_USED" not in os.environ:  # `fabric run` has launched it
        fabric.launch()
    return fabric


def precision_of(settings: Train) -> Mixed | None:
    """Return the plugin of a mixed precision, None for float32; RecipeError for float16 on a CPU."""
    if settings.precision == "32-true":
        return None
    device = device_type(os.environ.get("LT_ACCELERATOR", settings.accelerator))
    if device == "cpu" and settings.precision == "16-mixed":
        raise RecipeError("train.precision '16-mixed' needs a GPU; write 'bf16-mixed' or '32-true'")
    return Mixed(settings.precision, device)


def device_type(accelerator: str) -> str:
    """Return the torch device type that Fabric chooses for an accelerator."""
    if accelerator not in ("auto", "gpu"):
        return accelerator
    return "cuda" if CUDAAccelerator.is_available() else "mps" if MPSAccelerator.is_available() else "cpu"


def check_can_launch(devices: int) -> None:
    """Raise RecipeError where this command line cannot be started again for the other processes."""
    from_outside = "LOCAL_RANK" in os.environ or "SLURM_NTASKS" in os.environ
    main = sys.modules["__main__"]
    if not from_outside and getattr(main, "__spec__", None) is None and not Path(sys.argv[0]).is_file():
        raise RecipeError(
            f"train.devices = {devices}: this Python has no file that could be started again for the other processes; start them yourself "
            f"with: torchrun --nproc-per-node {devices} -m edgedistill.cli distill RECIPE"
        )


def is_first_process() -> bool:
    """Return whether this process is the one that speaks and writes; true without others."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


@contextmanager
def together(fabric: Fabric) -> Iterator[None]:
    """End all processes when one of them raises inside the block; the first one says what it was. No collective call may stand inside."""
    if fabric.world_size == 1:
        yield
        return
    mine: Exception | None = None
    try:
        yield
    except Exception as error:
        mine = error
    told: list[str | None] = [None] * fabric.world_size
    distributed.all_gather_object(told, None if mine is None else f"{type(mine).__name__}: {mine}")
    if any(told) and not fabric.is_global_zero:
        time.sleep(GRACE_S)
    if mine is not None:
        if isinstance(mine, EdgeDistillError):
            mine.told_elsewhere = not fabric.is_global_zero
        raise mine
    for rank, text in enumerate(told):
        if text is not None:
            raise TrainingError(f"process {rank} of {fabric.world_size} failed: {text}", told_elsewhere=not fabric.is_global_zero)


def first(fabric: Fabric, work: Callable[[], T]) -> T:
    """Do some work in the first process alone and return its value in all, which wait for it; it must be one that can be pickled."""
    value: Any = None
    with together(fabric):
        if fabric.is_global_zero:
            value = work()
    return fabric.broadcast(value)


def in_turn(fabric: Fabric, work: Callable[[], T], *, wait: bool) -> T:
    """Do some work in every process and return its value; with `wait`, each machine's first process has done it before the others begin."""
    value: Any = None
    for is_turn in (True, False) if wait else (None,):
        with together(fabric):
            if is_turn is None or is_turn == (fabric.local_rank == 0):
                value = work()
    return value


def share_of(fabric: Fabric, settings: Train) -> Share:
    """Return this process's share of each batch; RecipeError when a batch cannot be shared evenly."""
    parts = fabric.world_size * settings.accumulate
    if settings.batch_size % parts:
        raise RecipeError(
            f"train.batch_size {settings.batch_size} cannot be shared evenly by {fabric.world_size} processes in {settings.accumulate} "
            f"pieces; make it a multiple of {parts}"
        )
    return Share(fabric.global_rank, fabric.world_size, settings.accumulate)


def share_buffers(fabric: Fabric, module: torch.nn.Module) -> None:
    """Give all processes the first one's buffers: running means are gathered by each from its own images."""
    if fabric.world_size > 1:
        for buffer in module.buffers():
            distributed.broadcast(buffer, src=0)
