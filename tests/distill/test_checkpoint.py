"""Checkpoints: what is restored, whose random state, and which are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from lightning_fabric.plugins.precision import Precision
from torch import nn

from edgedistill.distill import checkpoint
from edgedistill.errors import ModelError, RecipeError
from edgedistill.recipe import Recipe


class FakeStrategy:
    """Has a precision without a state."""

    precision = Precision()


class FakeFabric:
    """One process of several."""

    device = torch.device("cpu")
    strategy = FakeStrategy()

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        self.global_rank, self.world_size = rank, world_size


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    """A layer after one step of Adam."""
    torch.manual_seed(3)
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return layer, optimizer


def saved(path: Path, wanted: Recipe, *, processes: int = 1, random: dict[str, torch.Tensor] | None = None) -> None:
    layer, optimizer = trained()
    progress = {"recipe": checkpoint.digest_of_training(wanted), "processes": processes, "step": 5, "scaler": {}}
    states = random or checkpoint.random_states(FakeFabric())  # type: ignore[arg-type]
    checkpoint.save(path, layer, optimizer, progress=progress, random=states)


def loaded(path: Path, wanted: Recipe, rank: int = 0, processes: int = 1) -> tuple[dict[str, Any], nn.Module, torch.optim.Optimizer]:
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    fabric: Any = FakeFabric(rank, processes)
    return checkpoint.load(path, layer, optimizer, recipe=wanted, fabric=fabric), layer, optimizer


def test_weights_optimizer_and_progress_come_back(tiny_recipe: Recipe, tmp_path: Path) -> None:
    saved(tmp_path / "c", tiny_recipe)
    before, moments = trained()
    progress, layer, optimizer = loaded(tmp_path / "c", tiny_recipe)
    assert progress["step"] == 5
    assert torch.equal(layer.weight, before.weight)
    for a, b in zip(optimizer.state_dict()["state"].values(), moments.state_dict()["state"].values(), strict=True):
        assert torch.equal(a["exp_avg"], b["exp_avg"])
        assert a["step"] == b["step"] == 1


@pytest.mark.parametrize("rank", [0, 1])
def test_each_process_gets_its_own_random_state(tiny_recipe: Recipe, tmp_path: Path, rank: int) -> None:
    states = [torch.Generator().manual_seed(seed).get_state() for seed in (10, 11)]
    saved(tmp_path / "c", tiny_recipe, processes=2, random={"cpu": torch.stack(states)})
    loaded(tmp_path / "c", tiny_recipe, rank, 2)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(10 + rank)))


@pytest.mark.parametrize(("before", "now"), [(2, 1), (1, 2)])
def test_another_number_of_processes_is_refused(tiny_recipe: Recipe, tmp_path: Path, before: int, now: int) -> None:
    saved(tmp_path / "c", tiny_recipe, processes=before)
    with pytest.raises(RecipeError, match=rf"by {before} processes, now there are {now}; go on with {before}"):
        loaded(tmp_path / "c", tiny_recipe, processes=now)


FREE = {"workers": 2, "threads": 3, "accumulate": 2, "compile": True, "checkpoint_steps": 9, "loggers": ("wandb",), "snapshots": (1,)}


@pytest.mark.parametrize("name", FREE)
def test_how_it_is_computed_may_change_on_the_way(tiny_recipe: Recipe, tmp_path: Path, name: str) -> None:
    saved(tmp_path / "c", tiny_recipe)
    other = msgspec.structs.replace(tiny_recipe, train=msgspec.structs.replace(tiny_recipe.train, **{name: FREE[name]}))
    assert name in checkpoint.MAY_CHANGE
    assert loaded(tmp_path / "c", other)[0]["step"] == 5


@pytest.mark.parametrize(
    "change", [{"lr": 0.5}, {"batch_size": 8}, {"epochs": 3}, {"ema": 0.9}, {"precision": "bf16-mixed"}, {"optimizer": "sgd"}], ids=str
)
def test_another_training_is_refused(tiny_recipe: Recipe, tmp_path: Path, change: dict[str, Any]) -> None:
    saved(tmp_path / "c", tiny_recipe)
    other = msgspec.structs.replace(tiny_recipe, train=msgspec.structs.replace(tiny_recipe.train, **change))
    with pytest.raises(RecipeError, match=r"is of another recipe; .* \(only train.workers, .* may be others"):
        loaded(tmp_path / "c", other)


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_file_that_is_no_checkpoint_is_refused(tiny_recipe: Recipe, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c").write_bytes(content)
    with pytest.raises(ModelError, match=r"cannot be used .* start again without --resume"):
        loaded(tmp_path / "c", tiny_recipe)


def test_a_checkpoint_of_another_network_is_refused(tiny_recipe: Recipe, tmp_path: Path) -> None:
    saved(tmp_path / "c", tiny_recipe)
    layer, fabric = nn.Linear(3, 2), FakeFabric()
    with pytest.raises(ModelError, match="size mismatch"):
        checkpoint.load(tmp_path / "c", layer, torch.optim.Adam(layer.parameters()), recipe=tiny_recipe, fabric=fabric)  # type: ignore[arg-type]
