"""Rows of metrics by hand: sums over images, shared by processes, and a loss that is not finite."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgedistill.distill import predict as predicting
from edgedistill.distill import rows
from edgedistill.distill.images import GreyArray, ImageSet
from edgedistill.distill.networks import Network
from edgedistill.errors import ModelError
from edgedistill.recipe import Student

CPU = torch.device("cpu")
LOGITS = torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 1.0]])
LABELS = torch.tensor([0, 0, -1])


class FakeFabric:
    """One of `world_size` processes; the others all have the same sums as this one."""

    device = CPU

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        self.global_rank, self.world_size = rank, world_size

    @property
    def is_global_zero(self) -> bool:
        return self.global_rank == 0

    def all_reduce(self, values: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "sum"
        return values * self.world_size


def added(sums: rows.Sums, loss: float = 1.5, term: float = 3.0) -> rows.Sums:
    sums.add(torch.tensor(loss), {"kd": torch.tensor(term)}, LOGITS, LABELS)
    return sums


def test_sums_are_over_images_and_hits_over_labelled_ones() -> None:
    sums = added(added(rows.Sums({}, CPU)), loss=0.5, term=1.0)
    assert sums.read() == {"images": 6.0, "loss": 6.0, "labelled": 4.0, "hits": 2.0, "term.kd": 12.0}


def test_sums_go_on_from_those_of_a_checkpoint() -> None:
    kept = json.loads(json.dumps(added(rows.Sums({}, CPU)).read()))
    assert added(rows.Sums(kept, CPU)).read() == added(added(rows.Sums({}, CPU))).read()


@pytest.mark.parametrize("rank", [0, 1])
def test_shared_sums_are_kept_by_the_first_process_alone(rank: int) -> None:
    sums, fabric = added(rows.Sums({}, CPU)), FakeFabric(rank, 2)
    shared = sums.share(fabric)  # type: ignore[arg-type]
    assert shared == {"images": 6.0, "loss": 9.0, "labelled": 4.0, "hits": 2.0, "term.kd": 18.0}
    assert sums.read() == (shared if rank == 0 else dict.fromkeys(shared, 0.0))


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_seen_later_too(loss: float) -> None:
    sums = added(rows.Sums({}, CPU), loss=loss)
    with pytest.raises(ModelError, match=r"the loss is -?(nan|inf) in epoch 3, step 7"):
        added(sums).check_finite(3, 7)
    added(rows.Sums({}, CPU)).check_finite(3, 7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_losses_of_any_precision_are_added_in_double(dtype: torch.dtype) -> None:
    sums = rows.Sums({}, CPU)
    for _ in range(1000):
        sums.add(torch.tensor(1.0, dtype=dtype), {}, LOGITS, LABELS)
    assert sums.read()["loss"] == 3000.0


def test_a_row_has_means_and_epochs_from_1() -> None:
    sums = {"images": 10.0, "loss": 25.0, "labelled": 4.0, "hits": 3.0, "term.kd": 5.0, "term.cross_entropy": 1.0}
    row = rows.row_of(sums, {"val_accuracy": 0.5, "val_loss": 1.0}, epoch=0, lr=0.1, seconds=4.0)
    assert row == {
        "epoch": 1,
        "lr": 0.1,
        "loss": 2.5,
        "terms": {"kd": 0.5, "cross_entropy": 0.1},
        "train_accuracy": 0.75,
        "val_accuracy": 0.5,
        "val_loss": 1.0,
        "seconds": 4.0,
        "images_per_second": 2.5,
    }


def test_without_labelled_images_the_accuracy_is_0() -> None:
    sums = {"images": 10.0, "loss": 25.0, "labelled": 0.0, "hits": 0.0}
    assert rows.row_of(sums, {}, epoch=0, lr=0.1, seconds=1.0)["train_accuracy"] == 0.0


@pytest.fixture
def bright_or_dark() -> tuple[Network, ImageSet]:
    """A network that calls bright images 1, on 5 images of which it gets 3 right."""

    class Brightness(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            mean = images.mean(dim=(1, 2, 3)) * self.scale
            return torch.stack([-mean, mean], dim=1)

    pixels = np.repeat(np.array([0, 255, 0, 255, 255], np.uint8), 16).reshape(5, 4, 4)
    images = ImageSet.of(GreyArray(pixels), np.array([0, 1, 1, 0, 1]), ("dark", "bright"))
    return Network(Brightness(), "brightness", 4, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), images


def test_validation_by_hand(bright_or_dark: tuple[Network, ImageSet]) -> None:
    network, images = bright_or_dark
    found = rows.validate(network, images, student=Student(model="x"), fabric=FakeFabric())  # type: ignore[arg-type]
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert found["val_accuracy"] == 0.6
    assert found["val_loss"] == pytest.approx((3 * right + 2 * wrong) / 5)


@pytest.mark.parametrize("processes", [2, 3, 7])
def test_each_process_validates_its_share(
    bright_or_dark: tuple[Network, ImageSet], monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    """Together they see each image once, also where there are more processes than images."""
    network, images = bright_or_dark
    seen: list[int] = []

    def noted(network: Network, mine: ImageSet, *, student: Student) -> np.ndarray:
        seen.extend(mine.index.tolist())
        return predicting.predict(network, mine, student=student)

    monkeypatch.setattr(rows, "predict", noted)
    monkeypatch.setattr(rows, "share_buffers", lambda fabric, module: None)
    totals = np.zeros(2)

    class Gathering(FakeFabric):
        def all_reduce(self, values: torch.Tensor, reduce_op: str) -> Any:
            totals[:] += values.numpy()
            return values

    for rank in range(processes):
        rows.validate(network, images, student=Student(model="x"), fabric=Gathering(rank, processes))  # type: ignore[arg-type]
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert totals[0] == pytest.approx(3)


def test_rows_are_written_one_a_line(tmp_path: Path) -> None:
    written = [{"epoch": 1, "loss": 0.1}, {"epoch": 2, "loss": 1e-17}]
    rows.write_rows(tmp_path / "metrics.jsonl", written)
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == written
