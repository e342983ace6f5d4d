"""Fabric as a recipe asks for it, shares of a batch, and what the processes of a training do together; real ones are in test_processes."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch
from torch import distributed

from edgedistill.distill import engine
from edgedistill.distill.loader import EpochOrder, Share
from edgedistill.errors import DataError, RecipeError, TrainingError
from edgedistill.recipe import Recipe, Term, Train


@dataclass
class FakeFabric:
    """One process of several; `others` is what the others tell when all gather."""

    global_rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    others: dict[int, str | None] = field(default_factory=dict)

    @property
    def is_global_zero(self) -> bool:
        return self.global_rank == 0

    def broadcast(self, value: Any) -> Any:
        return value if self.is_global_zero else "from the first"

    def gather(self, told: list[str | None], mine: str | None) -> None:
        told[:] = [mine if rank == self.global_rank else self.others.get(rank) for rank in range(self.world_size)]


@pytest.fixture
def join(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a process of several whose others tell what is given."""

    def make(rank: int, **others: str) -> FakeFabric:
        fabric = FakeFabric(rank, 2, rank, {int(name.removeprefix("p")): text for name, text in others.items()})
        monkeypatch.setattr(distributed, "all_gather_object", fabric.gather)
        monkeypatch.setattr(engine, "GRACE_S", 0.0)
        return fabric

    return make


def fail() -> str:
    raise DataError("no images")


def test_all_go_on_when_none_failed(join: Any) -> None:
    for rank in (0, 1):
        with engine.together(join(rank)):
            pass


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_s_own_failure_stays_what_it_is_and_the_first_tells_it(join: Any, rank: int) -> None:
    with pytest.raises(DataError, match=r"^no images$") as caught, engine.together(join(rank, p0="DataError: no images")):
        fail()
    assert caught.value.told_elsewhere is (rank == 1)


@pytest.mark.parametrize(("rank", "text"), [(0, "process 1 of 2 failed: KeyError: 'x'"), (1, "process 0 of 2 failed: KeyError: 'x'")])
def test_the_failure_of_another_process_ends_this_one(join: Any, rank: int, text: str) -> None:
    fabric = join(rank, **{f"p{1 - rank}": "KeyError: 'x'"})
    with pytest.raises(TrainingError, match=text) as caught, engine.together(fabric):
        pass
    assert caught.value.told_elsewhere is (rank == 1)


def test_alone_a_failure_passes_with_its_own_traceback() -> None:
    with pytest.raises(DataError) as caught, engine.together(FakeFabric()):  # type: ignore[arg-type]
        fail()
    assert not caught.value.told_elsewhere


def test_the_first_process_works_and_all_have_the_value(join: Any) -> None:
    done: list[int] = []

    def work() -> str:
        done.append(1)
        return "value"

    assert engine.first(join(0), work) == "value"
    assert engine.first(join(1), work) == "from the first"
    assert len(done) == 1


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize("rank", [0, 1])
def test_in_turn_every_process_works_once(join: Any, rank: int, *, wait: bool) -> None:
    fabric, events = join(rank), []
    gather = fabric.gather

    def noted(told: list[str | None], mine: str | None) -> None:
        events.append("meet")
        gather(told, mine)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "all_gather_object", noted)
        assert engine.in_turn(fabric, lambda: events.append("work") or "value", wait=wait) == "value"
    assert events == (["work", "meet"] if not wait else ["work", "meet", "meet"] if rank == 0 else ["meet", "work", "meet"])


@pytest.mark.parametrize(
    ("batch_size", "processes", "accumulate", "parts"), [(16, 1, 1, None), (16, 2, 4, None), (16, 3, 1, 3), (18, 2, 2, 4), (2, 2, 2, 4)]
)
def test_a_batch_is_shared_evenly_or_refused(batch_size: int, processes: int, accumulate: int, parts: int | None) -> None:
    fabric: Any = FakeFabric(0, processes)
    settings = Train(epochs=1, batch_size=batch_size, accumulate=accumulate)
    if parts is None:
        assert engine.share_of(fabric, settings) == Share(0, processes, accumulate)
        return
    with pytest.raises(RecipeError, match=rf"train.batch_size {batch_size} cannot be shared evenly .* multiple of {parts}"):
        engine.share_of(fabric, settings)


def test_all_pieces_of_all_processes_are_the_batch() -> None:
    whole = EpochOrder(64, 16, seed=1, epoch=0).batches
    shares = [EpochOrder(64, 16, seed=1, epoch=0, share=Share(rank, 2, 2)).batches for rank in (0, 1)]
    for number, batch in enumerate(whole):
        pieces = [share[2 * number + piece] for share in shares for piece in (0, 1)]
        assert [len(piece) for piece in pieces] == [4] * 4
        assert sorted(position for piece in pieces for position in piece) == sorted(batch)


@pytest.mark.parametrize(
    ("accelerator", "cuda", "mps", "expected"),
    [
        ("cpu", True, True, "cpu"),
        ("auto", True, False, "cuda"),
        ("gpu", True, False, "cuda"),
        ("auto", False, True, "mps"),
        ("auto", False, False, "cpu"),
    ],
)
def test_the_device_type_is_the_one_that_fabric_chooses(
    monkeypatch: pytest.MonkeyPatch, accelerator: str, expected: str, *, cuda: bool, mps: bool
) -> None:
    monkeypatch.setattr(engine.CUDAAccelerator, "is_available", lambda: cuda)
    monkeypatch.setattr(engine.MPSAccelerator, "is_available", lambda: mps)
    assert engine.device_type(accelerator) == expected


def test_mixed_precision_leaves_what_the_network_is_given() -> None:
    plugin = engine.precision_of(Train(epochs=1, precision="bf16-mixed", accelerator="cpu"))
    assert plugin is not None
    given = [torch.zeros(1), SimpleNamespace()]
    assert plugin.convert_input(given) is given
    assert engine.precision_of(Train(epochs=1)) is None


def test_fabric_run_s_accelerator_counts_for_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LT_ACCELERATOR", "cpu")
    with pytest.raises(RecipeError, match="'16-mixed' needs a GPU"):
        engine.precision_of(Train(epochs=1, precision="16-mixed", accelerator="cuda"))


def test_several_devices_need_a_command_that_can_be_started_again(monkeypatch: pytest.MonkeyPatch, tiny_recipe: Recipe) -> None:
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", ["-c"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    two = msgspec.structs.replace(tiny_recipe, train=msgspec.structs.replace(tiny_recipe.train, devices=2))
    with pytest.raises(RecipeError, match=r"torchrun --nproc-per-node 2 -m edgedistill.cli distill RECIPE"):
        engine.open_fabric(two)
    monkeypatch.setenv("LOCAL_RANK", "0")
    engine.check_can_launch(2)


class Opened:
    """Stands for Fabric; keeps what it is made with."""

    def __init__(self, **settings: Any) -> None:
        self.settings, self.launched = settings, 0

    def launch(self) -> None:
        self.launched += 1


@pytest.mark.parametrize(("environment", "launched"), [({}, 1), ({"LT_CLI_USED": "1", "LT_DEVICES": "1"}, 0)])
def test_what_fabric_run_has_launched_is_not_launched_again(
    monkeypatch: pytest.MonkeyPatch, tiny_recipe: Recipe, environment: dict[str, str], launched: int
) -> None:
    monkeypatch.setattr(engine, "Fabric", Opened)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    opened: Any = engine.open_fabric(tiny_recipe)
    assert opened.launched == launched


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ((Term(loss="cross_entropy"),), False),
        ((Term(loss="cross_entropy"), Term(loss="hint", layers={"0": "0"}, epochs=(0, 1))), True),
        ((Term(loss="cross_entropy"), Term(loss="hint", layers={"0": "0"}, weight=0.0)), True),
    ],
)
def test_unused_parameters_are_looked_for_only_where_there_can_be_some(
    monkeypatch: pytest.MonkeyPatch, tiny_recipe: Recipe, terms: tuple[Term, ...], *, expected: bool
) -> None:
    monkeypatch.setattr(engine, "Fabric", Opened)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "3")
    opened: Any = engine.open_fabric(msgspec.structs.replace(tiny_recipe, distill=terms))
    assert (opened.settings["devices"], opened.settings["num_nodes"]) == (2, 3)
    assert opened.settings["strategy"]._ddp_kwargs == {"find_unused_parameters": expected}


def test_alone_buffers_are_left_as_they_are() -> None:
    norm = torch.nn.BatchNorm1d(3)
    engine.share_buffers(FakeFabric(), norm)  # type: ignore[arg-type]
    assert torch.equal(norm.running_mean, torch.zeros(3))
    assert engine.is_first_process()
