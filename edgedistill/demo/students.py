"""Training for the demo: the taught student here, its plain control in a second process at the same time, one core each.

Small networks gain little from a second thread, so two processes on two cores end sooner than two trainings in turn.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill import recipe
from edgedistill.bundle import write_atomically
from edgedistill.distill import loop, run
from edgedistill.errors import ModelError
from edgedistill.recipe import Recipe


@dataclass(frozen=True)
class Demo:
    """What the demo is asked for, and how it speaks: `say` gets lines, `progress` gets bars."""

    out: Path
    data: str | None
    train_teacher: bool
    smoke: bool
    say: Callable[[str], None]
    progress: Callable[[str, int, int], None]


def train(job: Demo, wanted: Recipe, name: str) -> dict[str, Any]:
    """Train into out/NAME, going on from a checkpoint of the same recipe, or skip a finished one."""
    folder = job.out / name
    if (done := run.finished(folder, wanted)) is not None:
        job.say(f"{name}: trained before by this recipe, skipped")
        return done
    make_room(folder, wanted)
    return run.distill(wanted, folder, resume=True, progress=lambda text, d, t: job.progress(f"{name}: {text}", d, t))


def train_both(job: Demo, student: Recipe) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train the plain and the taught student at once; return both results."""
    control = student.plain()
    with in_background(job, control, "plain") as wait:
        distilled = train(job, student, "distilled")
        wait()
    plain = run.finished(job.out / "plain", control)
    assert plain is not None, "the background process ended well without a result"
    return plain, distilled


@contextmanager
def in_background(job: Demo, wanted: Recipe, name: str) -> Iterator[Callable[[], None]]:
    """Train into out/NAME in a process of its own; yields a function that waits for its end.

    The process is ended when the block is left early. ModelError with its message when it fails.
    """
    folder = job.out / name
    if run.finished(folder, wanted) is not None:
        job.say(f"{name}: trained before by this recipe, skipped")
        yield lambda: None
        return
    make_room(folder, wanted)
    file, log = job.out / f"{name}.toml", job.out / f"{name}.log"
    write_atomically(file, recipe.encode(wanted).encode())
    command = [sys.executable, "-m", "edgedistill.cli", "distill", str(file), "--out", str(folder), "--resume", "--json"]
    with log.open("w") as stream, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stream) as process:

        def wait() -> None:
            while process.poll() is None:
                job.progress(f"{name}: epochs", epochs_done(folder), wanted.train.epochs)
                time.sleep(0.5)
            if process.returncode != 0:
                raise ModelError(f"training {name} ended with code {process.returncode}: {log.read_text().strip()[-2000:]}")
            job.progress(f"{name}: epochs", wanted.train.epochs, wanted.train.epochs)

        try:
            yield wait
        finally:
            process.terminate()
    log.unlink(missing_ok=True)
    file.unlink(missing_ok=True)


def epochs_done(folder: Path) -> int:
    """Return how many epochs a run has finished."""
    metrics = folder / loop.METRICS
    return len(metrics.read_text().splitlines()) if metrics.is_file() else 0


def make_room(folder: Path, wanted: Recipe) -> None:
    """Remove an outdated run's own files, unless it can be resumed; anything else in the folder is left alone."""
    saved = folder / run.RECIPE
    same = saved.is_file() and recipe.digest(recipe.load(saved)) == recipe.digest(wanted)
    if same and (folder / loop.CHECKPOINT).is_file():
        return
    for name in (run.RECIPE, run.STUDENT, run.RESULTS, loop.CHECKPOINT, loop.METRICS):
        (folder / name).unlink(missing_ok=True)
