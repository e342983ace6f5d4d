"""Where metrics go beside metrics.jsonl: TensorBoard, Weights & Biases, MLflow, by the names in `train.loggers`.

Each is a context manager that gives a function from (values by name, epoch from 1) to nothing. A package is imported only when it is
named. Servers, accounts and projects are what the package's own environment variables and settings say.
"""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from edgedistill.bundle import write_atomically
from edgedistill.errors import MissingExtraError
from edgedistill.recipe import Recipe

Log = Callable[[Mapping[str, float], int], None]
PROJECT = "edgedistill"


@contextmanager
def tensorboard(recipe: Recipe, out: Path) -> Iterator[Log]:
    """Write event files into out/tensorboard."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of packages that TensorBoard imports
        from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(out / "tensorboard")) as writer:

        def log(values: Mapping[str, float], epoch: int) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, epoch)
            writer.flush()

        yield log


@contextmanager
def wandb(recipe: Recipe, out: Path) -> Iterator[Log]:
    """Log to a W&B run, the same one when a training is resumed; WANDB_MODE=offline keeps it on the disk."""
    import wandb as package

    identity = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]
    config = msgspec.to_builtins(recipe)
    run = package.init(project=PROJECT, name=recipe.name, id=identity, resume="allow", dir=str(out), config=config)
    try:
        yield lambda values, epoch: run.log(dict(values), step=epoch)
    finally:
        run.finish()


@contextmanager
def mlflow(recipe: Recipe, out: Path) -> Iterator[Log]:
    """Log to an MLflow run, the same one when a training is resumed: its id is in out/mlflow-run.txt."""
    import mlflow as package

    note = out / "mlflow-run.txt"
    package.set_experiment(PROJECT)
    with package.start_run(run_id=note.read_text() if note.exists() else None, run_name=recipe.name) as run:
        if not note.exists():
            write_atomically(note, run.info.run_id.encode())
            package.log_dict(msgspec.to_builtins(recipe), "recipe.json")
        yield lambda values, epoch: package.log_metrics(dict(values), step=epoch)


LOGGERS: dict[str, Callable[[Recipe, Path], AbstractContextManager[Log]]] = {"tensorboard": tensorboard, "wandb": wandb, "mlflow": mlflow}


def check_loggers(recipe: Recipe) -> None:
    """Raise MissingExtraError for a logger whose package is not installed."""
    for name in recipe.train.loggers:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(name, name)


@contextmanager
def opened(recipe: Recipe, out: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Give a function that sends a row of metrics to all loggers of the recipe."""
    with ExitStack() as stack:
        logs = [stack.enter_context(LOGGERS[name](recipe, out)) for name in recipe.train.loggers]

        def log(row: Mapping[str, Any]) -> None:
            values = {
                **{name: row[name] for name in row if name not in ("epoch", "terms")},
                **{f"terms/{n}": row["terms"][n] for n in row["terms"]},
            }
            for each in logs:
                each(values, row["epoch"])

        yield log
