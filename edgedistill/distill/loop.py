"""The training loop, in plain sight: Lightning Fabric, one teacher at most, exact resume.

What the loss is stands in `losses`, what a view is in `views`; files of a finished run are `run`'s business.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from lightning_fabric import Fabric
from timm.optim import create_optimizer_v2, list_optimizers  # type: ignore[attr-defined]
from timm.scheduler import CosineLRScheduler  # type: ignore[attr-defined]

from edgedistill import metrics
from edgedistill.bundle import Preprocess, write_atomically
from edgedistill.distill import checkpoint
from edgedistill.distill.data import Splits
from edgedistill.distill.loader import EpochOrder, Views, load
from edgedistill.distill.losses import total_loss
from edgedistill.distill.losses.batch import Batch
from edgedistill.distill.networks import Network
from edgedistill.distill.predict import forward, predict, preprocess_of
from edgedistill.errors import ModelError, RecipeError, close_matches
from edgedistill.recipe import Recipe, Train, digest

CHECKPOINT, METRICS = "checkpoint.safetensors", "metrics.jsonl"
#: Told what is going on, and how much of it is done: (description, done, total).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Job:
    """What the loop works on; `out` is an existing folder for checkpoint and metrics."""

    recipe: Recipe
    splits: Splits
    student: Network
    teacher: Network | None
    out: Path
    resume: bool
    progress: Progress


def train(job: Job) -> list[dict[str, Any]]:
    """Train the student in place and return one row of metrics an epoch, which are also in metrics.jsonl.

    With `resume` it goes on from the last checkpoint and ends with the same bits as an uninterrupted run.
    """
    recipe, settings = job.recipe, job.recipe.train
    steps = steps_of_an_epoch(job)
    fabric = Fabric(accelerator=settings.accelerator, devices=1, precision=settings.precision)
    fabric.seed_everything(recipe.seed, verbose=False)
    model, optimizer = fabric.setup(job.student.module, make_optimizer(job.student.module, settings))
    schedule = make_schedule(optimizer, settings, steps)
    if job.teacher is not None:
        fabric.to_device(job.teacher.module.eval().requires_grad_(False))
    state = restore(job, optimizer)
    known: dict[int, torch.Tensor] = {}

    for epoch in range(state["epoch"], settings.epochs):
        started = time.perf_counter()
        views = views_of(job, epoch)
        taught = teach(job, views, known) if job.teacher is not None else None
        order = EpochOrder(len(views), settings.batch_size, seed=recipe.seed, epoch=epoch, start=state["step"])
        model.train()
        for batch in load(views, order, workers=settings.workers):
            schedule.step_update(epoch * steps + state["step"])
            pixels, labels = fabric.to_device(batch.views), fabric.to_device(batch.labels)
            answers = model(job.student.feed(pixels))
            targets = fabric.to_device(taught[batch.positions]) if taught is not None else None
            loss, terms = total_loss(Batch(answers, targets, labels), recipe.distill)
            check_finite(loss, epoch, state["step"])
            fabric.backward(loss)
            if settings.clip_grad_norm:
                fabric.clip_gradients(model, optimizer, max_norm=settings.clip_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            add_up(state["sums"], len(labels), loss, terms, answers, labels)
            state["step"] += 1
            job.progress(f"training {recipe.name}", epoch * steps + state["step"], settings.epochs * steps)
            if settings.checkpoint_steps and state["step"] % settings.checkpoint_steps == 0 and state["step"] < steps:
                checkpoint.save(job.out / CHECKPOINT, job.student.module, optimizer, state)
        state["rows"].append(end_of_epoch(job, epoch, state["sums"], optimizer, time.perf_counter() - started))
        state |= {"epoch": epoch + 1, "step": 0, "sums": {}}
        checkpoint.save(job.out / CHECKPOINT, job.student.module, optimizer, state)
        write_rows(job.out / METRICS, state["rows"])
    return state["rows"]


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
    steps = len(job.splits.train) // job.recipe.train.batch_size
    if steps == 0:
        images = len(job.splits.train)
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
    return Views(job.splits.train, seed=job.recipe.seed, view=number, augment=data.augment, spec=view_spec(job))


def view_spec(job: Job) -> Preprocess:
    """Return the preprocessing of a view: at the larger of the networks' sizes, unless the recipe has a size."""
    networks = [network for network in (job.student, job.teacher) if network is not None]
    size = job.recipe.data.view_size or max(network.input_size for network in networks)
    return msgspec.structs.replace(preprocess_of(job.student, job.recipe.student), height=size, width=size)


def teach(job: Job, views: Views, known: dict[int, torch.Tensor]) -> torch.Tensor:
    """Return the teacher's (N, classes) logits on all views of this number, answering them only once a training.

    They are computed in the order of the images, in batches of one size, so that a resumed run gets the same bits.
    """
    assert job.teacher is not None
    if views.view not in known:
        order = [list(range(start, min(start + 256, len(views)))) for start in range(0, len(views), 256)]
        answers = []
        for done, batch in enumerate(load(views, order, workers=job.recipe.train.workers), start=1):
            answers.append(forward(job.teacher, batch.views).cpu())
            job.progress(f"teacher on view {views.view}", done, len(order))
        known[views.view] = torch.cat(answers)
    return known[views.view]


def restore(job: Job, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return where to begin: at the checkpoint when resuming, else at the start.

    A checkpoint of another recipe is refused; the metrics file is cut back to what the checkpoint knows of.
    """
    if not (job.resume and (job.out / CHECKPOINT).exists()):
        return {"recipe": digest(job.recipe), "epoch": 0, "step": 0, "sums": {}, "rows": []}
    state = checkpoint.load(job.out / CHECKPOINT, job.student.module, optimizer)
    if state["recipe"] != digest(job.recipe):
        raise RecipeError(f"the checkpoint in {job.out} is of another recipe; give the same recipe and --set, or another --out")
    write_rows(job.out / METRICS, state["rows"])
    return state


def check_finite(loss: torch.Tensor, epoch: int, step: int) -> None:
    """Raise ModelError for a loss that is infinite or not a number, before it spoils the weights."""
    if not math.isfinite(loss.item()):
        raise ModelError(f"the loss is {loss.item()} in epoch {epoch}, step {step}; lower train.lr or set train.clip_grad_norm")


def add_up(
    sums: dict[str, float], images: int, loss: torch.Tensor, terms: dict[str, torch.Tensor], answers: torch.Tensor, labels: torch.Tensor
) -> None:
    """Add one batch to the epoch's sums."""
    values = {"images": 1.0, "loss": loss.item(), "hits": (answers.argmax(1) == labels).float().mean().item()}
    values |= {f"term.{name}": term.item() for name, term in terms.items()}
    for name, value in values.items():
        sums[name] = sums.get(name, 0.0) + value * images


def end_of_epoch(job: Job, epoch: int, sums: dict[str, float], optimizer: torch.optim.Optimizer, seconds: float) -> dict[str, Any]:
    """Validate and return the epoch's row of metrics; losses are means over images, in nats."""
    validation = job.splits.validation
    logits = predict(job.student, validation, student=job.recipe.student)
    images = sums["images"]
    return {
        "epoch": epoch + 1,
        "lr": optimizer.param_groups[0]["lr"],
        "loss": sums["loss"] / images,
        "terms": {name.removeprefix("term."): value / images for name, value in sums.items() if name.startswith("term.")},
        "train_accuracy": sums["hits"] / images,
        "val_accuracy": metrics.accuracy(logits, validation.labels),
        "val_loss": metrics.negative_log_likelihood(logits, validation.labels),
        "seconds": round(seconds, 2),
        "images_per_second": round(images / seconds, 1),
    }


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write one JSON object a line, in one step."""
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
