"""A task that is learned in a second, and a student that has learned it: which colour a spot has, and in which row it lies."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from edgedistill.bundle import Preprocess, Provenance
from edgedistill.convert.job import ExportJob
from edgedistill.convert.pixels import model_pixels
from edgedistill.recipe import HALF_MEAN, HALF_STD, Export

LABELS = ["red up", "green up", "blue up", "red down", "green down", "blue down"]
COLOURS_BGR = np.array([(0, 0, 230), (0, 230, 0), (230, 0, 0)])
SPEC = Preprocess(height=16, width=16, resize="crop", interpolation="area")
PROVENANCE = Provenance(
    student="blobs",
    student_sha256="a" * 64,
    teacher=None,
    dataset="blobs",
    dataset_sha256="b" * 64,
    dataset_licence="CC0-1.0",
    recipe_sha256="c" * 64,
    created="2025-01-01T00:00:00Z",
    versions={"edgedistill": "0"},
)


def frames(count: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (count, 24, 32, 3) uint8 BGR frames and their (count,) labels."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (count, 24, 32, 3))
    labels = rng.integers(0, len(LABELS), count)
    for image, label in zip(images, labels, strict=True):
        top, left = (1, 14)[label // 3] + rng.integers(0, 3), 4 + rng.integers(0, 16)
        image[top : top + 7, left : left + 7] += COLOURS_BGR[label % 3] - 40
    return images.clip(0, 255).astype(np.uint8), labels


class Student(nn.Module):
    """What a MobileNet is made of, once each: strided, depthwise and pointwise convolution, batch norm, hard-swish, residual."""

    def __init__(self, classes: int = len(LABELS)) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        self.pointwise = nn.Sequential(nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.pool = nn.AdaptiveAvgPool2d((4, 1))
        self.head = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head(self.pool(x + self.pointwise(self.depthwise(x))).flatten(1))


def train(student: nn.Module, *, spec: Preprocess = SPEC, steps: int = 60, mean=HALF_MEAN, std=HALF_STD) -> nn.Module:
    """Teach a network the task; the result is the same in every run on one machine."""
    images, labels = frames(512, seed=1)
    pixels, targets = torch.from_numpy(model_pixels(images, spec)), torch.from_numpy(labels)
    normalized = ((pixels / 255 - torch.tensor(mean)) / torch.tensor(std)).permute(0, 3, 1, 2)
    student.train()
    optimizer = torch.optim.Adam(student.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the images are too small to share, and waiting threads take the time of other tests
    for _ in range(steps):
        batch = torch.randint(len(images), (64,), generator=generator)
        loss = nn.functional.cross_entropy(student(normalized[batch]), targets[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.set_num_threads(threads)
    return student.eval()


def trained(**options) -> nn.Module:
    """Return a student that knows the task."""
    torch.manual_seed(0)
    return train(Student(), **options)


def job(**changes) -> ExportJob:
    """Return an export job of the task, with some fields changed."""
    test_frames, test_labels = frames(256, seed=2)
    fields = {
        "name": "blobs",
        "labels": LABELS,
        "mean": HALF_MEAN,
        "std": HALF_STD,
        "preprocess": SPEC,
        "calibration_frames_bgr": frames(32, seed=3)[0],
        "test_frames_bgr": test_frames,
        "test_labels": test_labels,
        "settings": Export(formats=("onnx",)),
        "provenance": PROVENANCE,
    }
    return ExportJob(**(fields | changes))
