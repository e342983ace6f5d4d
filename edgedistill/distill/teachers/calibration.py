"""The temperature that makes a teacher's probabilities fit the validation images best: Guo et al. 2017, section 4.2.

A teacher's calibration error tells more about how well it teaches than its accuracy does.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from edgedistill import metrics
from edgedistill.distill.predict import answers_on
from edgedistill.distill.teachers.adjust import Adjusted
from edgedistill.distill.teachers.opening import Opening
from edgedistill.distill.teachers.teacher import Teacher

#: Temperatures that are looked at; a teacher that is always right on few images would go to 0.
LOWEST, HIGHEST = 0.05, 20.0
GOLDEN = (math.sqrt(5) - 1) / 2


def calibrated(teacher: Teacher, opening: Opening) -> Teacher:
    """Return the teacher with its logits divided by the temperature that fits the validation images best; say it."""
    validation = opening.splits.validation
    tick = lambda done, total: opening.progress("calibrating the teacher", done, total)  # noqa: E731
    logits = answers_on(teacher, validation, student=opening.recipe.student, tick=tick)
    temperature = fit_temperature(logits, validation.labels)
    before, after = (metrics.expected_calibration_error(logits / t, validation.labels) for t in (1.0, temperature))
    opening.say(f"teacher {teacher.facts['model']}: calibrated by temperature {temperature:g}, ECE {before:.3f} before, {after:.3f} after")

    def divided(answers: torch.Tensor) -> torch.Tensor:
        return answers / temperature

    return Adjusted(teacher, divided, how={"temperature": temperature})


def fit_temperature(logits_nc: np.ndarray, labels_n: np.ndarray) -> float:
    """Return the temperature with the least negative log-likelihood, to four digits: machines differ in the last bits of an answer.

    The loss is convex in 1/T, so it has one minimum in log T, which golden-section search finds.
    """

    def loss(log_t: float) -> float:
        return metrics.negative_log_likelihood(logits_nc.astype(np.float64) / math.exp(log_t), labels_n)

    low, high = math.log(LOWEST), math.log(HIGHEST)
    while high - low > 1e-5:
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return float(f"{math.exp((low + high) / 2):.4g}")
