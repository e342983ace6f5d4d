"""The training loop, in plain sight: Lightning Fabric, one process or many, exact resume.

What the loss is stands in `losses`, where the teacher's answers come from in `answers`; files of a finished run are `run`'s business.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from lightning_fabric import Fabric
from timm.optim import create_optimizer_v2, list_optimizers  # type: ignore[attr-defined]
from timm.scheduler import CosineLRScheduler  # type: ignore[attr-defined]
from timm.utils import ModelEmaV3  # type: ignore[attr-defined]

from edgedistill import metrics
from edgedistill.bundle import write_atomically
from edgedistill.distill import checkpoint, snapshots
from edgedistill.distill.answers import Answering
from edgedistill.distill.data import Splits
from edgedistill.distill.engine import share_of
from edgedistill.distill.images import ImageSet
from edgedistill.distill.learner import Learner
from edgedistill.distill.loader import EpochOrder, ViewBatch, Views, load
from edgedistill.distill.losses.batch import Batch
from edgedistill.distill.networks import Network
from edgedistill.distill.predict import predict, preprocess_of
from edgedistill.errors import ModelError, RecipeError, close_matches
from edgedistill.recipe import Recipe, Train, digest

CHECKPOINT, METRICS = "checkpoint.safetensors", "metrics.jsonl"
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

    for epoch in range(state["epoch"], settings.epochs):
        started = time.perf_counter()
        views = views_of(job, epoch)
        if job.answers is not None:
            job.answers.prepare(views, epoch)
        order = EpochOrder(len(views), settings.batch_size, seed=recipe.seed, epoch=epoch, start=state["step"], share=share)
        model.train()
        for number, piece in enumerate(load(views, order, workers=settings.workers), start=1):
            schedule.step_update(epoch * steps + state["step"])
            is_whole = number % settings.accumulate == 0
            pixels, batch = fabric.to_device(piece.views), batch_of(job, piece, epoch)
            with fabric.no_backward_sync(model, enabled=not is_whole):
                loss, terms, answers = model(pixels, batch, epoch)
                check_finite(loss, epoch, state["step"])
                fabric.backward(loss / settings.accumulate)
            add_up(state["sums"], loss, terms, answers, batch.labels)
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
                save(job, optimizer, state)
        state["rows"].append(end_of_epoch(job, epoch, state["sums"], optimizer, time.perf_counter() - started))
        if fabric.is_global_zero:
            snapshots.keep(kept(job), recipe, job.out, epoch=epoch + 1)
        state |= {"epoch": epoch + 1, "step": 0, "sums": {}}
        save(job, optimizer, state)
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
    """Write checkpoint and metrics."""
    if job.fabric.is_global_zero:
        checkpoint.save(job.out / CHECKPOINT, modules_of(job), optimizer, state)
        write_rows(job.out / METRICS, state["rows"])
    job.fabric.barrier()


def modules_of(job: Job) -> torch.nn.ModuleDict:
    """Return everything with weights that the next step depends on."""
    modules = {"student": job.learner.student, "parts": job.learner.parts}
    return torch.nn.ModuleDict(modules | ({"ema": job.ema.module} if job.ema is not None else {}))


def restore(job: Job, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return where to begin: at the checkpoint when resuming, else at the start.

    A checkpoint of another recipe is refused; the metrics file is cut back to what the checkpoint knows of.
    """
    if not (job.resume and (job.out / CHECKPOINT).exists()):
        return {"recipe": digest(job.recipe), "epoch": 0, "step": 0, "sums": {}, "rows": []}
    state = checkpoint.load(job.out / CHECKPOINT, modules_of(job), optimizer)
    if state["recipe"] != digest(job.recipe):
        raise RecipeError(f"the checkpoint in {job.out} is of another recipe; give the same recipe and --set, or another --out")
    write_rows(job.out / METRICS, state["rows"])
    return state


def check_finite(loss: torch.Tensor, epoch: int, step: int) -> None:
    """Raise ModelError for a loss that is infinite or not a number, before it spoils the weights."""
    if not math.isfinite(loss.item()):
        raise ModelError(f"the loss is {loss.item()} in epoch {epoch}, step {step}; lower train.lr or set train.clip_grad_norm")


def add_up(sums: dict[str, float], loss: torch.Tensor, terms: dict[str, torch.Tensor], answers: torch.Tensor, labels: torch.Tensor) -> None:
    """Add one batch to the epoch's sums; `labelled` and `hits` count images that have a label."""
    images = len(labels)
    values = {
        "images": images,
        "loss": loss.item() * images,
        "labelled": int((labels >= 0).sum()),
        "hits": int((answers.argmax(1) == labels).sum()),
    }
    values |= {f"term.{name}": term.item() * images for name, term in terms.items()}
    for name, value in values.items():
        sums[name] = sums.get(name, 0.0) + value


def end_of_epoch(job: Job, epoch: int, sums: dict[str, float], optimizer: torch.optim.Optimizer, seconds: float) -> dict[str, Any]:
    """Validate and return the epoch's row of metrics; losses are means over images, in nats."""
    validation = job.splits.validation
    logits = predict(kept(job), validation, student=job.recipe.student)
    images = sums["images"]
    return {
        "epoch": epoch + 1,
        "lr": optimizer.param_groups[0]["lr"],
        "loss": sums["loss"] / images,
        "terms": {name.removeprefix("term."): value / images for name, value in sums.items() if name.startswith("term.")},
        "train_accuracy": sums["hits"] / max(1, sums["labelled"]),
        "val_accuracy": metrics.accuracy(logits, validation.labels),
        "val_loss": metrics.negative_log_likelihood(logits, validation.labels),
        "seconds": round(seconds, 2),
        "images_per_second": round(images / seconds, 1),
    }


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write one JSON object a line, in one step."""
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
