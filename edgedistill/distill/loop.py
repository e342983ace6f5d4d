"""The training loop, in plain sight: Lightning Fabric, one process or many, exact resume.

What the loss is stands in `losses`, where the teacher's answers come from in `answers`; files of a finished run are `run`'s business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch
from lightning_fabric import Fabric
from timm.optim import create_optimizer_v2, list_optimizers  # type: ignore[attr-defined]
from timm.scheduler import CosineLRScheduler  # type: ignore[attr-defined]
from timm.utils import ModelEmaV3  # type: ignore[attr-defined]

from edgedistill.distill import checkpoint, rows, snapshots
from edgedistill.distill.answers import Answering
from edgedistill.distill.data import Splits
from edgedistill.distill.engine import first, share_of, together
from edgedistill.distill.images import ImageSet
from edgedistill.distill.learner import Learner
from edgedistill.distill.loader import EpochOrder, ViewBatch, Views, load
from edgedistill.distill.losses.batch import Batch
from edgedistill.distill.networks import Network
from edgedistill.distill.predict import preprocess_of
from edgedistill.distill.rows import LOOK_EVERY, Sums, row_of, validate, write_rows
from edgedistill.errors import ModelError, RecipeError, close_matches
from edgedistill.recipe import Recipe, Train

CHECKPOINT, METRICS = "checkpoint.safetensors", rows.METRICS
#: Told what is going on, and how much of it is done: (description, done, total).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Job:
    """What the loop works on.

    Args:
        images: the training images, with those that have no label; `splits` has the others.
        learner: the student with its losses.
        view_size: side of a view in pixels.
        answers: where the teacher's answers come from, None without a teacher.
        ema: the student's exponential average, None without one.
        out: an existing folder for checkpoint and metrics.
        log: is given each epoch's row of metrics.
    """

    recipe: Recipe
    fabric: Fabric
    images: ImageSet
    splits: Splits
    learner: Learner
    view_size: int
    answers: Answering | None
    ema: ModelEmaV3 | None
    out: Path
    resume: bool
    progress: Progress
    log: Callable[[Mapping[str, Any]], None] = lambda row: None


def train(job: Job) -> list[dict[str, Any]]:
    """Train the student in place and return one row of metrics an epoch, which are also in metrics.jsonl.

    With `resume` it goes on from the last checkpoint and ends with the same bits as an uninterrupted run.
    """
    recipe, settings, fabric = job.recipe, job.recipe.train, job.fabric
    share, steps = share_of(fabric, settings), steps_of_an_epoch(job)
    fabric.seed_everything(recipe.seed + fabric.global_rank, verbose=False)
    model, optimizer = fabric.setup(job.learner, make_optimizer(job.learner, settings))
    schedule = make_schedule(optimizer, settings, steps)
    state = restore(job, optimizer)
    look_every = 1 if fabric.device.type == "cpu" else LOOK_EVERY

    for epoch in range(state["epoch"], settings.epochs):
        started = time.perf_counter() - state["seconds"]
        views = views_of(job, epoch)
        if job.answers is not None:
            job.answers.prepare(views, epoch)
        sums = Sums(state["sums"] if fabric.is_global_zero else {}, fabric.device)
        order = EpochOrder(len(views), settings.batch_size, seed=recipe.seed, epoch=epoch, start=state["step"], share=share)
        model.train()
        for number, piece in enumerate(load(views, order, workers=settings.workers), start=1):
            schedule.step_update(epoch * steps + state["step"])
            is_whole = number % settings.accumulate == 0
            pixels, batch = fabric.to_device(piece.views), batch_of(job, piece, epoch)
            with fabric.no_backward_sync(model, enabled=not is_whole):
                loss, terms, answers = model(pixels, batch, epoch)
                sums.add(loss, terms, answers, batch.labels)
                if number % look_every == 0:
                    sums.check_finite(epoch, state["step"])
                fabric.backward(loss / settings.accumulate)
            if not is_whole:
                continue
            if settings.clip_grad_norm:
                fabric.clip_gradients(model, optimizer, max_norm=settings.clip_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            if job.ema is not None:
                job.ema.update(job.learner.student)
            state["step"] += 1
            job.progress(f"training {recipe.name}", epoch * steps + state["step"], settings.epochs * steps)
            if settings.checkpoint_steps and state["step"] % settings.checkpoint_steps == 0 and state["step"] < steps:
                save(job, optimizer, state | {"sums": sums.share(fabric), "seconds": time.perf_counter() - started})
        sums.check_finite(epoch, state["step"])
        validation = validate(kept(job), job.splits.validation, student=recipe.student, fabric=fabric)
        lr, seconds = optimizer.param_groups[0]["lr"], time.perf_counter() - started
        state["rows"].append(row_of(sums.share(fabric), validation, epoch=epoch, lr=lr, seconds=seconds))
        first(fabric, partial(snapshots.keep, kept(job), recipe, job.out, epoch=epoch + 1))
        state |= {"epoch": epoch + 1, "step": 0, "sums": {}, "seconds": 0.0}
        save(job, optimizer, state)
        first(fabric, partial(job.log, state["rows"][-1]))
    return state["rows"]


def kept(job: Job) -> Network:
    """Return the network that is measured and kept: the student, or its exponential average."""
    network = job.learner.network
    return network if job.ema is None else replace(network, module=job.ema.module)


def batch_of(job: Job, piece: ViewBatch, epoch: int) -> Batch:
    """Return what the losses need of a batch, on the training's device: labels and the teacher's answers."""
    answered = job.answers.answer(piece, epoch) if job.answers is not None else None
    moved = job.fabric.to_device
    mixed = job.recipe.data.augment.mixup > 0 or job.recipe.data.augment.cutmix > 0
    return Batch(
        student=torch.empty(0),
        teacher=moved(answered.logits) if answered is not None else None,
        labels=moved(piece.labels),
        other_labels=moved(piece.other_labels) if mixed else None,
        share=moved(piece.share) if mixed else None,
        teacher_features=moved(dict(answered.features)) if answered is not None else {},
    )


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Let torch use this many threads inside the block, as many as before without a count."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def steps_of_an_epoch(job: Job) -> int:
    """Return the number of whole batches in the training images."""
    steps = len(job.images) // job.recipe.train.batch_size
    if steps == 0:
        images = len(job.images)
        raise RecipeError(f"train.batch_size {job.recipe.train.batch_size} is larger than the {images} training images; lower it")
    return steps


def make_optimizer(module: torch.nn.Module, settings: Train) -> torch.optim.Optimizer:
    """Return timm's optimizer of that name; norms and biases get no weight decay."""
    known: Any = list_optimizers()
    if settings.optimizer not in known:
        raise RecipeError(f"train.optimizer: timm has no optimizer {settings.optimizer!r}.{close_matches(settings.optimizer, known)}")
    return create_optimizer_v2(module, opt=settings.optimizer, lr=settings.lr, weight_decay=settings.weight_decay)


def make_schedule(optimizer: torch.optim.Optimizer, settings: Train, steps: int) -> Any:
    """Return timm's cosine schedule with linear warm-up, a function of the step alone."""
    return CosineLRScheduler(
        optimizer,
        t_initial=settings.epochs * steps,
        warmup_t=round(settings.warmup_epochs * steps),
        warmup_lr_init=settings.lr / 100,
        warmup_prefix=False,
        t_in_epochs=False,
    )


def views_of(job: Job, epoch: int) -> Views:
    """Return the augmented training views of an epoch."""
    data = job.recipe.data
    number = epoch % data.views if data.views else epoch
    student = preprocess_of(job.learner.network, job.recipe.student)
    spec = msgspec.structs.replace(student, height=job.view_size, width=job.view_size)
    return Views(job.images, seed=job.recipe.seed, view=number, augment=data.augment, spec=spec)


def save(job: Job, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Write checkpoint and metrics, once it is sure that they are good; the ones before are kept until then."""
    check_weights(job, state)
    whole = state | {"scaler": job.fabric.strategy.precision.state_dict()}
    random = checkpoint.random_states(job.fabric)

    def write() -> None:
        checkpoint.save(job.out / CHECKPOINT, modules_of(job), optimizer, progress=whole, random=random)
        write_rows(job.out / METRICS, state["rows"])

    first(job.fabric, write)


def check_weights(job: Job, state: dict[str, Any]) -> None:
    """Raise ModelError for weights that are not finite: the loss before the last step cannot show what that step did to them."""
    weights = [parameter.detach() for parameter in modules_of(job).parameters()]
    if not torch.isfinite(torch.stack(torch._foreach_norm(weights))).all():
        raise ModelError(
            f"weights are not finite after {state['epoch']} epochs and {state['step']} steps; lower train.lr or set train.clip_grad_norm"
        )


def modules_of(job: Job) -> torch.nn.ModuleDict:
    """Return everything with weights that the next step depends on."""
    modules = {"student": job.learner.student, "parts": job.learner.parts}
    return torch.nn.ModuleDict(modules | ({"ema": job.ema.module} if job.ema is not None else {}))


def restore(job: Job, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return where to begin: at the checkpoint when resuming, else at the start.

    A checkpoint of another recipe or number of processes is refused; the metrics file is cut back to what the checkpoint knows of.
    """
    fabric = job.fabric
    start = {
        "recipe": checkpoint.digest_of_training(job.recipe),
        "processes": fabric.world_size,
        "epoch": 0,
        "step": 0,
        "sums": {},
        "rows": [],
        "seconds": 0.0,
    }
    if not (job.resume and (job.out / CHECKPOINT).exists()):
        return start
    with together(fabric):
        state = checkpoint.load(job.out / CHECKPOINT, modules_of(job), optimizer, recipe=job.recipe, fabric=fabric)
    first(fabric, lambda: write_rows(job.out / METRICS, state["rows"]))
    return state
