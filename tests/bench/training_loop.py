"""What the training loop costs beyond a loop written by hand for the same work: the same views, student, losses and optimizer.

Each takes its steps on one thread, whose CPU time is taken: what others do on the machine meanwhile does not count.
"""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from entry import Entry, at_most, interleave, machine, median
from torch.nn import functional
from torch.utils.data import DataLoader
from view_cache import one_thread

from edgedistill import recipe
from edgedistill.distill import loop, networks
from edgedistill.distill.assemble import Order, assemble
from edgedistill.distill.data import open_splits
from edgedistill.distill.engine import open_fabric
from edgedistill.distill.loader import EpochOrder, View, ViewBatch, Views
from edgedistill.distill.loop import Job
from edgedistill.distill.teachers.teacher import Answers

BLOCKS, ROUNDS, WARMUP, BOUND = 9, 12, 4, 0.05
RECIPE = """
name = "training-loop"
[data]
source = "embedded"
train_limit = 4000
test_limit = 10
augment = {flip = true, shift = 0.1, scale = [0.8, 1.2]}
[student]
model = "timm:mobilenetv2_050"
input_size = 64
[[distill]]
loss = "kd"
weight = 0.9
temperature = 4.0
[[distill]]
loss = "cross_entropy"
weight = 0.1
[train]
epochs = 100
batch_size = 32
accelerator = "cpu"
"""


class Precomputed:
    """The teacher's answers as one tensor, by position."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits

    def prepare(self, views: Views, epoch: int) -> None:
        """There is nothing to prepare."""

    def answer(self, batch: ViewBatch, epoch: int) -> Answers:
        """Return the rows of a batch."""
        return Answers(self.logits[batch.positions])

    def facts(self) -> dict[str, object]:
        """There is nothing to tell."""
        return {}


class OverError(Exception):
    """Ends the loop from within."""


class Steps:
    """`loop.train` in a thread of its own, which takes one step when it is told to."""

    def __init__(self, job: Job) -> None:
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._over, self._started, self._seconds = False, 0.0, 0.0
        self._job = replace(job, progress=self._after_step)
        self._thread = threading.Thread(target=self._train, daemon=True)
        self._thread.start()

    def _train(self) -> None:
        with one_thread():
            self._wait()
            try:
                loop.train(self._job)
            except OverError:
                self._done.release()

    def _after_step(self, text: str, done: int, total: int) -> None:
        self._seconds = time.thread_time() - self._started
        self._done.release()
        self._wait()

    def _wait(self) -> None:
        self._go.acquire()
        if self._over:
            raise OverError
        self._started = time.thread_time()

    def step(self) -> float:
        """Take one step and return its seconds."""
        self._go.release()
        self._done.acquire()
        return self._seconds

    def close(self) -> None:
        """End the loop."""
        self._over = True
        self.step()
        self._thread.join()


def by_hand(views: Views, teacher_logits: torch.Tensor, wanted: recipe.Recipe) -> Iterator[float]:
    """Train as one would write it down for this one case; give the seconds of each step."""
    student = networks.build(wanted.student, views.images.classes)
    model, settings = student.module, wanted.train
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) * 255 for value in (student.mean, student.std))
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    steps = len(views) // settings.batch_size
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * steps)
    for epoch in itertools.count():
        views.view, total, hits = epoch, 0.0, 0
        order = EpochOrder(len(views), settings.batch_size, seed=wanted.seed, epoch=epoch)
        model.train()
        started = time.thread_time()
        for pixels, labels, positions in DataLoader(views, batch_sampler=order, collate_fn=stacked):
            logits = model((pixels.permute(0, 3, 1, 2).float() - mean) / std)
            soft = functional.log_softmax(logits / 4, dim=1), functional.log_softmax(teacher_logits[positions] / 4, dim=1)
            kd = functional.kl_div(*soft, reduction="batchmean", log_target=True) * 16
            loss = 0.9 * kd + 0.1 * functional.cross_entropy(logits, labels)
            total += loss.item()
            hits += int((logits.argmax(1) == labels).sum())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            yield time.thread_time() - started
            started = time.thread_time()


def stacked(items: list[View]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return pixels, labels and positions."""
    pixels = torch.stack([torch.from_numpy(item.pixels) for item in items])
    return pixels, torch.tensor([item.label for item in items]), torch.tensor([item.position for item in items])


def training_loop() -> list[Entry]:
    """Compare steps of the loop with steps of one written by hand, in turn, on one thread each."""
    return measure(recipe.decode(RECIPE), blocks=BLOCKS, rounds=ROUNDS)


def measure(wanted: recipe.Recipe, *, blocks: int, rounds: int) -> list[Entry]:
    """Return the entry; blocks, because on a shared machine the speed changes for seconds at a time."""
    with one_thread(), tempfile.TemporaryDirectory() as folder, both(wanted, Path(folder)) as measures:
        interleave(measures, rounds=WARMUP)
        pairs = [tuple(map(median, interleave(measures, rounds=rounds))) for _ in range(blocks)]
    added = median([ours / hand - 1 for ours, hand in pairs])
    ours_ms, hand_ms = (1e3 * median([pair[index] for pair in pairs]) for index in (0, 1))
    size = f"{wanted.student.model} at {wanted.student.input_size}, batches of {wanted.train.batch_size}, kd and cross_entropy"
    how = (
        f"CPU time of a step of the loop ({ours_ms:.1f} ms) beyond one written by hand ({hand_ms:.1f} ms), as a part of it; median of "
        f"{blocks} blocks of the quotient of medians of {rounds} interleaved steps; {size}, 1 thread; {machine()}"
    )
    return [at_most("training_loop", added, bound=BOUND, unit="step", how=how)]


@contextmanager
def both(wanted: recipe.Recipe, out: Path) -> Iterator[list[Callable[[], float]]]:
    """Give the two measures: a step of the loop, and one of the loop written by hand."""
    splits, fabric = open_splits(wanted.data), open_fabric(wanted)
    torch.manual_seed(0)
    student = networks.build(wanted.student, splits.classes)
    logits = torch.randn(len(splits.train), len(splits.classes))
    job = assemble(Order(wanted, splits, student, None, out, False, lambda text, done, total: None), fabric)
    steps = Steps(replace(job, answers=Precomputed(logits)))
    hand = by_hand(loop.views_of(job, 0), logits, wanted)
    try:
        yield [steps.step, lambda: next(hand)]
    finally:
        steps.close()
