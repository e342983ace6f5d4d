"""What the view cache gains: a training step on kept answers against one with the teacher itself, interleaved."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from entry import Entry, at_most, interleave, machine, median
from lightning_fabric import Fabric

from edgedistill import recipe
from edgedistill.distill import networks
from edgedistill.distill.answers import Answering, Online
from edgedistill.distill.cache import Cached, Surroundings
from edgedistill.distill.data import open_splits
from edgedistill.distill.learner import Learner
from edgedistill.distill.loader import ViewBatch, Views, collate
from edgedistill.distill.loop import make_optimizer
from edgedistill.distill.losses.batch import Batch
from edgedistill.distill.predict import preprocess_of
from edgedistill.distill.teachers import NetworkTeacher
from edgedistill.distill.teachers.teacher import Answers

ROUNDS = 9
LEAST, READING = 0.8, 0.05
RECIPE = """
name = "view-cache"
[data]
source = "embedded"
train_limit = 256
test_limit = 10
view_size = 64
augment = {flip = true, shift = 0.1, scale = [0.8, 1.2]}
[student]
model = "timm:mobilenetv3_small_050"
input_size = 64
[teacher]
model = "timm:resnet50"
input_size = 64
[[distill]]
loss = "kd"
temperature = 4.0
[train]
epochs = 1
batch_size = 32
accelerator = "cpu"
"""


@dataclass(frozen=True)
class Training:
    """A student in training that can take single steps."""

    learner: Learner
    optimizer: torch.optim.Optimizer
    views: Views
    positions: Iterator[list[int]]

    def batch(self) -> ViewBatch:
        """Return the next batch of views."""
        return collate([self.views[i] for i in next(self.positions)])

    def step(self, ask: Callable[[ViewBatch], Answers]) -> None:
        """Take one step: views, the teacher's answers, forward, backward, weights."""
        batch = self.batch()
        given = Batch(student=torch.empty(0), teacher=ask(batch).logits, labels=batch.labels)
        loss, _, _ = self.learner(batch.views, given, 0)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def view_cache() -> list[Entry]:
    """Compare steps with kept answers, with the teacher, and with neither, of the same student on one thread."""
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        wanted = recipe.decode(RECIPE, overrides=[f'cache.folder="{folder}"'])
        return measure(wanted, rounds=ROUNDS)


def measure(wanted: recipe.Recipe, *, rounds: int) -> list[Entry]:
    """Return the entries for one recipe."""
    training, teacher = open_training(wanted)
    cached = Cached(teacher, wanted, Surroundings(Fabric(accelerator="cpu", devices=1)))
    cached.prepare(training.views, 0)
    online: Answering = Online(teacher, ())
    blank = Answers(torch.zeros(wanted.train.batch_size, 10))
    works: list[Callable[[], float]] = [
        timed(lambda: training.step(lambda batch: cached.answer(batch, 0))),
        timed(lambda: training.step(lambda batch: online.answer(batch, 0))),
        timed(lambda: training.step(lambda batch: blank)),
        timed_on(training, lambda batch: teacher.answer(batch)),
        timed_on(training, lambda batch: cached.answer(batch, 0)),
    ]
    interleave(works, rounds=2)
    cached_s, online_s, student_s, teacher_s, reading_s = map(median, interleave(works, rounds=rounds))
    size, asked = cached.facts()["bytes"], cached.facts()["teacher_forwards"]
    return entries(
        Seconds(cached_s, online_s, student_s, teacher_s, reading_s),
        how=f"{asked} answers of {Path(wanted.teachers[0].model).name} in {size} bytes",
    )


@dataclass(frozen=True)
class Seconds:
    """Medians: of a step on kept answers, with the teacher, with neither; of the teacher and of reading alone."""

    cached: float
    online: float
    student: float
    teacher: float
    reading: float


def entries(seconds: Seconds, *, how: str) -> list[Entry]:
    """Return what the figures say.

    A speed-up of at least 0.8 · (t_teacher + t_student) / t_student is a cached step of at most so much of an online one.
    """
    possible = (seconds.teacher + seconds.student) / seconds.student
    speed_up = seconds.online / seconds.cached
    milliseconds = {name: f"{getattr(seconds, name) * 1e3:.1f} ms" for name in ("cached", "online", "student", "teacher")}
    taken = (
        f"medians of {ROUNDS} interleaved rounds, batches of 32, 64x64, 1 thread: {how}; gain {speed_up:.2f} of {possible:.2f} possible; "
        f"a step cached {milliseconds['cached']}, online {milliseconds['online']}, without a teacher {milliseconds['student']}; "
        f"teacher alone {milliseconds['teacher']}; {machine()}"
    )
    reading = f"reading a batch's answers ({seconds.reading * 1e6:.0f} us) as a part of a cached step"
    return [
        at_most("cached_step", seconds.cached / seconds.online, bound=1 / (LEAST * possible), unit="online", how=taken),
        at_most("cache_reading", seconds.reading / seconds.cached, bound=READING, unit="step", how=reading),
    ]


def open_training(wanted: recipe.Recipe) -> tuple[Training, NetworkTeacher]:
    """Build the student and its teacher, with random weights: their time does not depend on them."""
    torch.manual_seed(0)
    splits = open_splits(wanted.data)
    student = networks.build(wanted.student, splits.classes)
    teacher = NetworkTeacher(networks.build(wanted.teachers[0], splits.classes))
    spec = preprocess_of(student, wanted.student)
    views = Views(splits.train, seed=0, view=0, augment=wanted.data.augment, spec=spec)
    learner = Learner(student, wanted.distill, torch.nn.ModuleDict())
    starts = range(0, len(views) - wanted.train.batch_size + 1, wanted.train.batch_size)
    positions = itertools.cycle([list(range(start, start + wanted.train.batch_size)) for start in starts])
    return Training(learner.train(), make_optimizer(learner, wanted.train), views, positions), teacher


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """Return a measure of the seconds that a piece of work takes."""

    def take() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return take


def timed_on(training: Training, work: Callable[[ViewBatch], object]) -> Callable[[], float]:
    """Return a measure of what a piece of work takes on a batch that is at hand."""

    def take() -> float:
        batch = training.batch()
        return timed(lambda: work(batch))()

    return take


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
