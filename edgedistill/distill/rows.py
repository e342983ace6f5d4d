"""The rows of metrics.jsonl: sums over the images of an epoch, shared by all processes, and what is measured after it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from edgedistill import metrics
from edgedistill.bundle import write_atomically
from edgedistill.distill.engine import share_buffers
from edgedistill.distill.images import ImageSet
from edgedistill.distill.networks import Network
from edgedistill.distill.predict import predict
from edgedistill.errors import ModelError
from edgedistill.recipe import Student

METRICS = "metrics.jsonl"
#: Steps between two looks at the loss on a GPU, which has to be waited for; on a CPU every step is looked at.
LOOK_EVERY = 50


class Sums:
    """Sums over images by name, on the training's device: they are read seldom, so that a GPU need not be waited for in each step.

    `loss` and `term.NAME` are sums over images in nats; `labelled` and `hits` count images that have a label.
    """

    def __init__(self, values: Mapping[str, float], device: torch.device) -> None:
        self._names = tuple(values)
        self._dtype = torch.float32 if device.type == "mps" else torch.float64  # that device has no float64
        self._sums = torch.tensor(list(values.values()), dtype=self._dtype, device=device)

    def add(self, loss: torch.Tensor, terms: Mapping[str, torch.Tensor], logits_nc: torch.Tensor, labels: torch.Tensor) -> None:
        """Add one batch; all batches of an epoch must have the same terms."""
        names = ("images", "loss", "labelled", "hits", *(f"term.{name}" for name in terms))
        images = len(labels)
        counts = [(labels >= 0).sum(), (logits_nc.argmax(1) == labels).sum()]
        means = torch.stack([loss.detach(), *terms.values()]).to(self._dtype) * images
        values = torch.cat([means.new_tensor([images]), means[:1], torch.stack(counts).to(self._dtype), means[1:]])
        self._sums = values if not self._names else self._sums + values
        self._names = names

    def read(self) -> dict[str, float]:
        """Return the sums of this process."""
        return dict(zip(self._names, self._sums.tolist(), strict=True))

    def share(self, fabric: Fabric) -> dict[str, float]:
        """Return the sums of all processes; from now on the first one keeps them, and the others count from 0."""
        total = fabric.all_reduce(self._sums.clone(), reduce_op="sum")
        assert isinstance(total, torch.Tensor)
        self._sums = total if fabric.is_global_zero else torch.zeros_like(total)
        return dict(zip(self._names, total.tolist(), strict=True))

    def check_finite(self, epoch: int, step: int) -> None:
        """Raise ModelError for a loss that was infinite or not a number: a sum stays so once it is."""
        loss = self.read()["loss"]
        if not math.isfinite(loss):
            raise ModelError(f"the loss is {loss} in epoch {epoch}, step {step}; lower train.lr or set train.clip_grad_norm")


def validate(network: Network, images: ImageSet, *, student: Student, fabric: Fabric) -> dict[str, float]:
    """Return accuracy and loss in nats on the validation images, of which each process does its share."""
    share_buffers(fabric, network.module)
    mine = images.take(np.arange(fabric.global_rank, len(images), fabric.world_size))
    sums = [0.0, 0.0]
    if len(mine) > 0:
        logits = predict(network, mine, student=student)
        sums = [metrics.accuracy(logits, mine.labels) * len(mine), metrics.negative_log_likelihood(logits, mine.labels) * len(mine)]
    dtype = torch.float32 if fabric.device.type == "mps" else torch.float64
    total = fabric.all_reduce(torch.tensor(sums, dtype=dtype, device=fabric.device), reduce_op="sum")
    assert isinstance(total, torch.Tensor)
    hits, loss = total.tolist()
    return {"val_accuracy": round(hits) / len(images), "val_loss": loss / len(images)}


def row_of(sums: Mapping[str, float], validation: Mapping[str, float], *, epoch: int, lr: float, seconds: float) -> dict[str, Any]:
    """Return an epoch's row of metrics; losses are means over images, in nats, epochs are numbered from 1."""
    images = sums["images"]
    return {
        "epoch": epoch + 1,
        "lr": lr,
        "loss": sums["loss"] / images,
        "terms": {name.removeprefix("term."): value / images for name, value in sums.items() if name.startswith("term.")},
        "train_accuracy": sums["hits"] / max(1.0, sums["labelled"]),
        **validation,
        "seconds": round(seconds, 2),
        "images_per_second": round(images / seconds, 1),
    }


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, in one step."""
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
