"""Training with fake quantization on a student of a few layers: it learns, freezes, keeps the best, and fails in words."""

from __future__ import annotations

import numpy as np
import pytest
import small_graphs
import torch
from torch import nn

from edgedistill.convert import calibration
from edgedistill.convert.aware import Batch, Points, train
from edgedistill.convert.aware.train import answered, loss_of, score
from edgedistill.convert.calibration import Range
from edgedistill.convert.graph import Graph, logits_of
from edgedistill.errors import ConvertError, TrainingError
from edgedistill.recipe import QuantizationAware

NAMES = ("permute", "relu", "relu_1", "flatten")
POINTS = Points(stored={name: name for name in NAMES}, floating=frozenset({"linear"}))
SETTINGS = QuantizationAware(epochs=2, lr=1e-3, batch_size=16, range_lr=1e-2, freeze_ranges=0.5, labels=0.0)
IMAGES = small_graphs.pixels(64)


@pytest.fixture(scope="module")
def small() -> Graph:
    """Return a student whose channels are of very different sizes, which 8 bits do not hold well."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
    with torch.no_grad():
        factors = 2.0 ** torch.arange(8)
        first.weight *= factors[:, None, None, None]
        first.bias *= factors
        second.weight /= factors[:, None, None]
    return small_graphs.graph_of(first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3), classes=3)


@pytest.fixture(scope="module")
def ranges(small: Graph) -> dict[str, Range]:
    return calibration.ranges_of(calibration.observe(small, IMAGES, histograms=False), "minmax")


def batches(epoch: int) -> list[Batch]:
    order = np.random.default_rng(epoch).permutation(len(IMAGES))
    return [Batch(IMAGES[order[start : start + 16]]) for start in range(0, len(IMAGES), 16)]


def losses(small: Graph, ranges: dict[str, Range], settings: QuantizationAware, **options) -> list[float]:
    """Return the loss of every step."""
    found: list[float] = []
    train(
        small, ranges, batches, settings, points=POINTS, progress=lambda text, done, total: found.append(float(text.split()[-1])), **options
    )
    return found


def test_the_loss_falls(small: Graph, ranges: dict[str, Range]) -> None:
    found = losses(small, ranges, QuantizationAware(epochs=8, lr=1e-3, range_lr=1e-2, labels=0.0, temperature=0.05))
    assert np.mean(found[-4:]) < 0.7 * np.mean(found[:4])


def test_progress_counts_steps(small: Graph, ranges: dict[str, Range]) -> None:
    told: list[tuple[int, int]] = []
    train(small, ranges, batches, SETTINGS, points=POINTS, progress=lambda text, done, total: told.append((done, total)))
    assert told == [(step, 8) for step in range(1, 9)]


def test_what_comes_in_stays_and_the_same_comes_out_each_time(small: Graph, ranges: dict[str, Range]) -> None:
    before, given = {name: value.clone() for name, value in small.module.state_dict().items()}, dict(ranges)
    first, second = (train(small, ranges, batches, SETTINGS, points=POINTS) for _ in range(2))
    assert all(torch.equal(value, before[name]) for name, value in small.module.state_dict().items())
    assert not any(parameter.requires_grad for graph in (small, first[0]) for parameter in graph.module.parameters())
    assert ranges == given
    assert first[1] == second[1]
    states = first[0].module.state_dict(), second[0].module.state_dict()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert any(not torch.equal(value, before[name]) for name, value in states[0].items())


def test_ranges_are_learned_but_those_that_are_prescribed(small: Graph, ranges: dict[str, Range]) -> None:
    found = train(small, ranges, batches, SETTINGS, points=POINTS)[1]
    assert set(found) == set(ranges)
    assert {name for name in NAMES if found[name] != pytest.approx(ranges[name], rel=1e-6)} == {"relu", "relu_1", "flatten"}
    assert found["permute"] == ranges["permute"]
    assert found["relu"].low == 0


def test_ranges_that_are_frozen_from_the_start_stay(small: Graph, ranges: dict[str, Range]) -> None:
    frozen = QuantizationAware(epochs=1, lr=1e-3, freeze_ranges=0.0)
    graph, found = train(small, ranges, batches, frozen, points=POINTS)
    assert all(found[name] == pytest.approx(ranges[name]) for name in ranges)
    assert not np.array_equal(logits_of(graph, IMAGES), logits_of(small, IMAGES))


def test_ranges_freeze_on_the_way(small: Graph, ranges: dict[str, Range]) -> None:
    one, all_of_it = (
        train(small, ranges, batches, QuantizationAware(epochs=2, freeze_ranges=part), points=POINTS)[1] for part in (0.125, 1.0)
    )
    assert abs(one["relu"].high - ranges["relu"].high) < abs(all_of_it["relu"].high - ranges["relu"].high)


def test_the_best_state_is_kept(small: Graph, ranges: dict[str, Range]) -> None:
    """A training that ruins the student gives the state before it."""
    ruin = QuantizationAware(epochs=1, lr=10.0, range_lr=1e-6)
    labels = logits_of(small, IMAGES).argmax(1)
    graph, _ = train(small, ranges, batches, ruin, points=POINTS, validation=Batch(IMAGES, labels))
    assert np.array_equal(logits_of(graph, IMAGES), logits_of(small, IMAGES))
    ruined, _ = train(small, ranges, batches, ruin, points=POINTS)
    assert not np.array_equal(logits_of(ruined, IMAGES), logits_of(small, IMAGES))


@pytest.mark.parametrize("labels", [np.array([0, 1, -1, 2]), None], ids=["labels", "none"])
def test_the_loss_is_what_the_papers_say(labels: np.ndarray | None) -> None:
    logits, teacher = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), np.float32(np.eye(4, 3) * 5)
    settings = QuantizationAware(temperature=2.0, labels=0.25)
    soft = torch.softmax(torch.from_numpy(teacher) / 2, 1)
    expected = 4 * (soft * (soft.log() - torch.log_softmax(logits / 2, 1))).sum(1).mean()
    if labels is not None:
        known = labels >= 0
        expected = 0.75 * expected - 0.25 * torch.log_softmax(logits, 1)[known, labels[known]].mean()
    assert loss_of(logits, Batch(IMAGES[:4], labels, teacher), settings).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_batch_without_any_label_is_no_division_by_zero() -> None:
    batch = Batch(IMAGES[:2], np.array([-1, -1]), np.zeros((2, 3), np.float32))
    assert torch.isfinite(loss_of(torch.randn(2, 3), batch, QuantizationAware(labels=0.5)))


def test_without_a_teacher_the_student_teaches_itself(small: Graph) -> None:
    assert np.array_equal(answered(Batch(IMAGES), small).teacher_logits, logits_of(small, IMAGES))
    given = Batch(IMAGES, None, np.zeros((64, 3), np.float32))
    assert answered(given, small) is given


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (lambda logits: Batch(IMAGES), 1.0),
        (lambda logits: Batch(IMAGES, logits.argmax(1)), 1.0),
        (lambda logits: Batch(IMAGES, logits.argmin(1)), 0.0),
        (lambda logits: Batch(IMAGES, None, -logits), 0.0),
        (lambda logits: Batch(IMAGES, logits.argmax(1), -logits), 1.0),
    ],
    ids=["itself", "labels", "wrong labels", "teacher", "labels before the teacher"],
)
def test_the_score_is_the_part_answered_rightly(small: Graph, images, expected: float) -> None:
    assert score(small.module, small, images(logits_of(small, IMAGES))) == expected


def test_a_loss_that_is_not_finite_is_told(small: Graph, ranges: dict[str, Range]) -> None:
    def broken(epoch: int) -> list[Batch]:
        return [Batch(IMAGES[:16], None, np.full((16, 3), np.nan, np.float32))]

    with pytest.raises(TrainingError, match=r"is nan in step 1 of 2; lower export\.qad\.lr \(0\.001\) or export\.qad\.range_lr"):
        train(small, ranges, broken, SETTINGS, points=POINTS)


def test_no_batches_are_told(small: Graph, ranges: dict[str, Range]) -> None:
    with pytest.raises(ConvertError, match="no batch of 16 images"):
        train(small, ranges, lambda epoch: [], SETTINGS, points=POINTS)
