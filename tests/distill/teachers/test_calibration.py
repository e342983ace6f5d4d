"""The fitted temperature: known where answers were drawn from known probabilities, and applied to what is taught."""

from pathlib import Path

import made
import numpy as np
import pytest
import torch

from edgedistill import metrics
from edgedistill.distill.teachers import open_teacher
from edgedistill.distill.teachers.calibration import HIGHEST, LOWEST, fit_temperature


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_of_overconfident_answers_is_found(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (6000, 5))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (probabilities.cumsum(1) < rng.random((6000, 1))).sum(1)
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.08)


def test_no_other_temperature_fits_better() -> None:
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(0, 3, (200, 4)).astype(np.float32), rng.integers(0, 4, 200)
    best = fit_temperature(logits, labels)
    loss = metrics.negative_log_likelihood(logits / best, labels)
    assert all(metrics.negative_log_likelihood(logits / other, labels) >= loss - 1e-6 for other in np.geomspace(LOWEST, HIGHEST, 200))


@pytest.mark.parametrize(("labels", "limit"), [([0, 1], LOWEST), ([1, 0], HIGHEST)])
def test_always_right_and_always_wrong_stay_within_limits(labels: list[int], limit: float) -> None:
    assert fit_temperature(np.array([[3.0, 0.0], [0.0, 3.0]]), np.array(labels)) == pytest.approx(limit, rel=1e-3)


def test_a_calibrated_teacher_s_logits_are_divided_and_it_is_said(tmp_path: Path) -> None:
    spec = {"model": "python:tiny_network:make", "weights": str(made.save(made.network(), tmp_path / "t.safetensors"))}
    said: list[str] = []
    plain = open_teacher(made.recipe_of(spec), made.splits())
    teacher = open_teacher(made.recipe_of(spec | {"calibrate": True}), made.splits(), say=said.append)
    assert plain is not None
    assert teacher is not None
    temperature = teacher.identity["temperature"]
    assert temperature != 1
    assert torch.allclose(teacher.answer(made.views()).logits, plain.answer(made.views()).logits / temperature)
    assert teacher.facts == plain.facts
    assert said[0].startswith(f"teacher python:tiny_network:make: calibrated by temperature {temperature:g}, ECE 0.")
    assert " before, 0." in said[0]
