"""Rows of a cache give every loss what the teacher's logits would."""

import dataclasses
import math

import made_batches
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch.nn import functional

from edgedistill.distill.cache.form import Form
from edgedistill.distill.losses import LOSSES
from edgedistill.distill.losses.batch import Batch
from edgedistill.distill.teachers.ensemble import averaged
from edgedistill.errors import ModelError
from edgedistill.recipe import Cache, Term

ON_LOGITS = [name for name, loss in LOSSES.items() if "teacher" in loss.needs and "features" not in loss.needs]
KEYS = [{"standardize": standardize} | ({"temperature": t} if t else {}) for standardize in (False, True) for t in (None, 4.0)]


def form(classes: int, *, precision: str = "fp16", top_k: int | None = None) -> Form:
    return Form(classes, precision, top_k)


def through(logits_nc: np.ndarray, kept: Form) -> np.ndarray:
    """Return logits as they come out of a file."""
    rows = np.frombuffer(kept.encode(logits_nc).tobytes(), kept.dtype)
    return kept.decode(rows)


def logits(images: int = 32, classes: int = 10, *, scale: float = 4.0, seed: int = 0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal((images, classes)) + 7).astype(np.float32)


@pytest.mark.parametrize(
    ("cache", "classes", "top_k"),
    [
        (Cache(), 10, None),
        (Cache(), 1000, None),
        (Cache(), 1001, 100),
        (Cache(top_k=5), 10, 5),
        (Cache(top_k=7), 2000, 7),
        (Cache(top_k=10), 10, None),
        (Cache(top_k=50), 10, None),
    ],
)
def test_up_to_a_thousand_classes_all_are_kept(cache: Cache, classes: int, top_k: int | None) -> None:
    assert Form.of(cache, classes).top_k == top_k


@pytest.mark.parametrize(
    ("kept", "bytes_a_row"),
    [
        (form(10), 20),
        (form(10, precision="fp32"), 40),
        (form(2000, top_k=100), 100 * (2 + 2) + 4),
        (form(70_000, top_k=100), 100 * (2 + 4) + 4),
        (form(2000, precision="fp32", top_k=100), 100 * (4 + 2) + 4),
    ],
)
def test_bytes_of_a_row(kept: Form, bytes_a_row: int) -> None:
    assert kept.dtype.itemsize == bytes_a_row


def loss_of(name: str, keys: dict[str, object], teacher_nc: np.ndarray) -> float:
    student = torch.from_numpy(logits(scale=2.0, seed=9, classes=teacher_nc.shape[1])).requires_grad_()
    labels = torch.arange(len(student)) % teacher_nc.shape[1]
    batch = Batch(student, torch.from_numpy(teacher_nc.astype(np.float32)), labels)
    given_keys = {key: value for key, value in keys.items() if key in LOSSES[name].reads}
    return LOSSES[name].function(batch, Term(loss=name, **given_keys)).item()  # type: ignore[arg-type]


@pytest.mark.parametrize("keys", KEYS, ids=str)
@pytest.mark.parametrize("name", ON_LOGITS)
@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 1e-3), ("fp32", 1e-5)])
def test_every_loss_on_logits_is_the_same_on_kept_answers(name: str, keys: dict[str, object], precision: str, tolerance: float) -> None:
    """Also of an ensemble's log-probabilities, which are far from 0."""
    plain = logits()
    ensemble = averaged([torch.from_numpy(logits(seed=seed)) for seed in (0, 1)], [0.4, 0.6], "probabilities").numpy()
    for teacher in (plain, ensemble):
        kept = through(teacher, form(10, precision=precision))
        assert loss_of(name, keys, kept) == pytest.approx(loss_of(name, keys, teacher), abs=tolerance)


def test_there_are_losses_on_logits() -> None:
    assert {"kd", "dkd", "dist", "hard_label"} <= set(ON_LOGITS)


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if "features" in loss.needs])
def test_losses_on_features_do_not_look_at_logits(name: str) -> None:
    batch = made_batches.full_batch()
    other = dataclasses.replace(batch, teacher=torch.zeros_like(batch.student))
    torch.manual_seed(0)
    parts = made_batches.parts_of(name)
    assert made_batches.loss_of(name, batch, *parts).item() == made_batches.loss_of(name, other, *parts).item()


def test_dense_rows_are_centred() -> None:
    """By hand: the mean of 1, 2, 6 is 3."""
    kept = form(3)
    assert kept.encode(np.array([[1.0, 2.0, 6.0]]))["logits"].tolist() == [[-2.0, -1.0, 3.0]]


def test_top_k_by_hand() -> None:
    """Probabilities 1/2, 1/4, 1/8, 1/8: the first two are kept, 1/4 is left, 1/8 for each of the others."""
    kept = form(4, top_k=2)
    rows = kept.encode(np.log([[1 / 8, 1 / 2, 1 / 8, 1 / 4]]) + 5)
    assert rows["classes"].tolist() == [[1, 3]]
    assert rows["log_probs"][0].tolist() == pytest.approx([math.log(1 / 2), math.log(1 / 4)], abs=1e-3)
    assert rows["log_tail"][0] == pytest.approx(math.log(1 / 4), abs=1e-6)
    assert np.exp(kept.decode(rows))[0].tolist() == pytest.approx([1 / 8, 1 / 2, 1 / 8, 1 / 4], abs=2e-4)


def test_the_tail_is_spread_evenly() -> None:
    kept = form(4, top_k=2)
    spread = np.exp(through(np.log([[0.5, 0.3, 0.15, 0.05]]), kept))[0]
    assert spread.tolist() == pytest.approx([0.5, 0.3, 0.1, 0.1], abs=2e-4)


def test_top_k_of_many_classes_changes_the_divergence_little() -> None:
    """A teacher of 2,000 classes, sure of a few, and a student near it: the divergence moves by less than 1e-3."""
    rng = np.random.default_rng(0)
    teacher = rng.standard_normal((16, 2000)).astype(np.float32)
    teacher[np.arange(16)[:, None], rng.integers(0, 2000, (16, 5))] += 12
    student = torch.from_numpy(teacher + rng.standard_normal(teacher.shape).astype(np.float32) / 2).log_softmax(1)
    for precision in ("fp16", "fp32"):
        kept = torch.from_numpy(through(teacher, Form.of(Cache(precision=precision), 2000))).log_softmax(1)  # type: ignore[arg-type]
        exact = torch.from_numpy(teacher).log_softmax(1)
        divergences = [functional.kl_div(student, t, reduction="batchmean", log_target=True).item() for t in (exact, kept)]
        assert abs(divergences[0] - divergences[1]) < 1e-3


@given(arrays.arrays(np.float32, (3, 6), elements=st.floats(-50, 50, width=32)), st.sampled_from([None, 1, 3, 5]))
def test_kept_logits_sum_to_one_and_keep_the_decision(values: np.ndarray, top_k: int | None) -> None:
    kept = through(values, form(6, top_k=top_k))
    decisions = values.astype(np.float64).argmax(1)
    assert kept.dtype == np.float32
    assert kept.argmax(1).tolist() == decisions.tolist()
    if top_k is not None:
        assert np.exp(kept.astype(np.float64)).sum(1) == pytest.approx(1, abs=5e-3)


def test_a_decision_that_rounding_would_tie_is_kept() -> None:
    """1 and 1 + 2^-12 are one number in 16 bits."""
    close = np.array([[0.0, 1.0, 1.0 + 2**-12, -2.0]], np.float32)
    assert through(close, form(4)).argmax(1).tolist() == [2]
    assert through(close, form(4, top_k=2)).argmax(1).tolist() == [2]
    assert np.abs(through(close, form(4)) - (close - close.mean())).max() < 2e-3


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, 1e6])
def test_answers_that_cannot_be_kept_are_refused(wrong: float) -> None:
    values = logits(4, 3)
    values[2, 1] = wrong
    with pytest.raises(ModelError, match="cannot be kept in 16 bits"), np.errstate(all="ignore"):
        form(3).encode(values)
