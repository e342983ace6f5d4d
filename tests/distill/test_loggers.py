"""Loggers by name: what reaches them, what is said when a package is missing, and that a resumed training goes on in the same place."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import pytest

from edgedistill import recipe
from edgedistill.distill import loggers, loop, run
from edgedistill.errors import MissingExtraError
from edgedistill.recipe import Recipe

ROW = {"epoch": 2, "lr": 0.1, "loss": 1.5, "terms": {"kd": 1.0, "cross_entropy": 5.0}, "val_accuracy": 0.25}
VALUES = {"lr": 0.1, "loss": 1.5, "terms/kd": 1.0, "terms/cross_entropy": 5.0, "val_accuracy": 0.25}


def logged_by(wanted: Recipe, *names: str) -> Recipe:
    return msgspec.structs.replace(wanted, train=msgspec.structs.replace(wanted.train, loggers=names))


class FakeWandb(ModuleType):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.inits: list[dict[str, Any]] = []
        self.rows: list[tuple[dict[str, float], int]] = []
        self.finished = 0

    def init(self, **settings: Any) -> SimpleNamespace:
        self.inits.append(settings)
        return SimpleNamespace(log=lambda values, step: self.rows.append((values, step)), finish=self._finish)

    def _finish(self) -> None:
        self.finished += 1


class FakeMlflow(ModuleType):
    """Keeps what it is told; numbers its runs."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.started: list[tuple[str | None, str]] = []
        self.rows: list[tuple[dict[str, float], int]] = []
        self.documents: list[str] = []

    def set_experiment(self, name: str) -> None:
        self.experiment = name

    @contextmanager
    def start_run(self, run_id: str | None, run_name: str) -> Any:
        self.started.append((run_id, run_name))
        yield SimpleNamespace(info=SimpleNamespace(run_id=run_id or "run-1"))

    def log_dict(self, document: dict[str, Any], name: str) -> None:
        self.documents.append(name)

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.rows.append((values, step))


def test_every_name_that_a_recipe_can_have_is_a_logger() -> None:
    (field,) = (field for field in msgspec.structs.fields(recipe.Train) if field.name == "loggers")
    assert set(loggers.LOGGERS) == {"tensorboard", "wandb", "mlflow"}
    assert all(f"'{name}'" in str(field.type) for name in loggers.LOGGERS)


def test_each_has_an_extra_of_its_name() -> None:
    import configparser

    config = configparser.ConfigParser()
    config.read(Path(__file__).parents[2] / "setup.cfg")
    for name in loggers.LOGGERS:
        assert config["options.extras_require"][name].split()[0].startswith(name)


def test_a_missing_package_is_told_before_anything_is_written(tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "wandb" else found(name, *rest))
    with pytest.raises(MissingExtraError, match=r"wandb is not installed; install it with: pip install 'edgedistill\[wandb\]'"):
        run.distill(logged_by(tiny_recipe, "wandb"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_loggers_nothing_is_imported(tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in loggers.LOGGERS:
        monkeypatch.setitem(sys.modules, name, None)
    with loggers.opened(tiny_recipe, tmp_path) as log:
        log(ROW)


def test_wandb_is_given_the_recipe_and_each_row(tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for folder in ("run", "run", "other"):
        with loggers.opened(logged_by(tiny_recipe, "wandb"), tmp_path / folder) as log:
            log(ROW)
    assert fake.rows == [(VALUES, 2)] * 3
    assert fake.finished == 3
    first, again, other = fake.inits
    assert first["id"] == again["id"] != other["id"]
    assert (first["project"], first["name"], first["resume"]) == ("edgedistill", "tiny", "allow")
    assert first["config"]["train"]["batch_size"] == 16


def test_a_wandb_run_is_finished_when_the_training_fails(tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with pytest.raises(KeyboardInterrupt), loggers.opened(logged_by(tiny_recipe, "wandb"), tmp_path):
        raise KeyboardInterrupt
    assert fake.finished == 1


def test_mlflow_goes_on_in_the_run_that_it_began(tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    for _ in range(2):
        with loggers.opened(logged_by(tiny_recipe, "mlflow"), tmp_path) as log:
            log(ROW)
    assert fake.started == [(None, "tiny"), ("run-1", "tiny")]
    assert fake.documents == ["recipe.json"]
    assert fake.rows == [(VALUES, 2)] * 2
    assert fake.experiment == "edgedistill"


@pytest.mark.slow  # where TensorFlow is installed, TensorBoard imports it
def test_tensorboard_has_every_value_of_every_epoch(tiny_recipe: Recipe, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run.distill(logged_by(tiny_recipe, "tensorboard"), tmp_path / "run")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    rows = [json.loads(line) for line in (tmp_path / "run" / loop.METRICS).read_text().splitlines()]
    assert set(events.Tags()["scalars"]) == (set(rows[0]) - {"epoch", "terms"}) | {"terms/cross_entropy"}
    for name in ("loss", "val_accuracy"):
        assert [(event.step, event.value) for event in events.Scalars(name)] == [
            (row["epoch"], pytest.approx(row[name], rel=1e-6)) for row in rows
        ]


@pytest.mark.slow
def test_the_real_mlflow_keeps_the_metrics(tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", exc_type=ImportError)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "tracked").as_uri())
    run.distill(logged_by(tiny_recipe, "mlflow"), tmp_path / "run")
    identity = (tmp_path / "run" / "mlflow-run.txt").read_text()
    history = mlflow.MlflowClient().get_metric_history(identity, "val_accuracy")
    assert [entry.step for entry in history] == [1, 2]


@pytest.mark.slow
def test_the_real_wandb_writes_offline(tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", exc_type=ImportError)
    monkeypatch.setenv("WANDB_MODE", "offline")
    run.distill(logged_by(tiny_recipe, "wandb"), tmp_path / "run")
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert "WANDB_MODE" in os.environ
