"""A torch network's answers on a set of images, fed by the device's own preprocessing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from edgedistill.bundle import Preprocess
from edgedistill.distill.images import ImageSet
from edgedistill.distill.loader import Views, collate
from edgedistill.distill.networks import Network
from edgedistill.preprocess import Preprocessor
from edgedistill.recipe import Augment, Student

if TYPE_CHECKING:  # teachers calibrate themselves by `answers_on`
    from edgedistill.distill.teachers.teacher import Teacher


def preprocess_of(network: Network, student: Student) -> Preprocess:
    """Return how frames are brought to this network's size: in the student's way, as raw RGB pixels."""
    size = network.input_size
    return Preprocess(height=size, width=size, resize=student.resize, interpolation=student.interpolation)


def predict(
    network: Network,
    images: ImageSet,
    *,
    student: Student,
    batch_size: int = 256,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Return (N, classes) float32 logits of all images, without augmentation.

    Args:
        student: its resize mode and interpolation are used, at the network's own size.
        tick: is told the numbers of images done and in all.
    """
    prepare = Preprocessor(preprocess_of(network, student))
    answers: list[np.ndarray] = []
    for start in range(0, len(images), batch_size):
        frames = (images.frame(i) for i in range(start, min(start + batch_size, len(images))))
        views = np.concatenate([prepare(frame).copy() for frame in frames])
        answers.append(forward(network, torch.from_numpy(views)).cpu().numpy())
        tick(min(start + batch_size, len(images)), len(images))
    return np.concatenate(answers)


def plain_preprocess(teacher: Teacher, student: Student) -> Preprocess:
    """Return how frames are brought to a teacher's own size, in the student's way."""
    size = teacher.facts["input_size"] or student.input_size or 224
    return Preprocess(height=size, width=size, resize=student.resize, interpolation=student.interpolation)


def answers_on(
    teacher: Teacher,
    images: ImageSet,
    *,
    student: Student,
    batch_size: int = 256,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Return a teacher's (N, classes) float32 logits on all images, without augmentation, at its own size in the student's way."""
    views = Views(images, seed=0, view=0, augment=Augment(), spec=plain_preprocess(teacher, student))
    answers: list[np.ndarray] = []
    for start in range(0, len(images), batch_size):
        batch = collate([views[i] for i in range(start, min(start + batch_size, len(images)))])
        answers.append(teacher.answer(batch).logits.cpu().numpy())
        tick(min(start + batch_size, len(images)), len(images))
    return np.concatenate(answers)


def forward(network: Network, views_nhwc: torch.Tensor) -> torch.Tensor:
    """Return (N, classes) float32 logits in evaluation mode, without gradient; the network's mode is kept."""
    training = network.module.training
    network.module.eval()
    try:
        with torch.inference_mode():
            device = next(network.module.parameters()).device
            return network.module(network.feed(views_nhwc.to(device))).float()
    finally:
        network.module.train(training)
