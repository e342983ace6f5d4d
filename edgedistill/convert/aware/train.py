"""Quantization-aware distillation: a fake quantized student learns what the fp32 teacher answers, in plain sight.

The same batches give the same result: nothing here is random. Batch norms are folded before, so there are no statistics to drift.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import fx
from torch.nn import functional

from edgedistill.convert.aware.fake_quant import LEARNED, RANGES, fake_quantized, learned
from edgedistill.convert.aware.points import Points
from edgedistill.convert.calibration import Ranges
from edgedistill.convert.graph import Graph, centred
from edgedistill.errors import ConvertError, TrainingError
from edgedistill.recipe.export import QuantizationAware

#: The label of an image that has none.
UNLABELLED = -1
#: Images that validation runs at a time.
_VALIDATED = 128


class Batch(NamedTuple):
    """Training images: (N, H, W, 3) uint8 RGB pixels, (N,) labels, -1 where there is none, and the teacher's (N, classes) logits.

    Labels and logits may be left out; without a teacher the fp32 student teaches itself.
    """

    pixels_nhwc: np.ndarray
    labels: np.ndarray | None = None
    teacher_logits: np.ndarray | None = None


class Epoch(Protocol):
    """The batches of one epoch."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


#: From the number of an epoch to its batches; every epoch has as many.
Batches = Callable[[int], Epoch]
#: Told what is going on, and how much of it is done: (description, done, total).
Progress = Callable[[str, int, int], None]


def train(
    graph: Graph,
    ranges: Ranges,
    batches: Batches,
    settings: QuantizationAware,
    *,
    points: Points,
    validation: Batch | None = None,
    progress: Progress = lambda text, done, total: None,
) -> tuple[Graph, Ranges]:
    """Return a trained copy of a graph, its learned ranges, and all other ranges as they were; what comes in stays as it is.

    Args:
        ranges: those to start from, of the same graph.
        points: where the int8 file rounds.
        validation: images to choose the best epoch by, the state before training included; without them the last one is returned.

    Raises TrainingError for a loss that is not finite and ConvertError where there are no batches.
    """
    module = fake_quantized(graph, ranges, points)
    ends, weights = getattr(module, RANGES), [value.requires_grad_() for name, value in module.named_parameters() if name != RANGES]
    ends.register_hook(lambda gradient: gradient * getattr(module, LEARNED))
    groups = [{"params": weights, "lr": settings.lr}, {"params": [ends], "lr": settings.range_lr}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    steps, step = _steps(batches, settings), 0
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: (1 + math.cos(math.pi * min(done / steps, 1))) / 2)
    best = _Best(module, graph, validation)
    for epoch in range(settings.epochs):
        for batch in batches(epoch):
            ends.requires_grad_(step < settings.freeze_ranges * steps)
            loss = loss_of(module(centred(graph, batch.pixels_nhwc)), answered(batch, graph), settings)
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the loss of the fake quantized student is {loss.item()} in step {step + 1} of {steps}; lower export.qad.lr "
                    f"({settings.lr:g}) or export.qad.range_lr ({settings.range_lr:g})"
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            progress(f"training with fake quantization, loss {loss.item():.3f}", step, steps)
        best.look(module)
    return learned(best.restored(module), graph, ranges, points)


def loss_of(logits: torch.Tensor, batch: Batch, settings: QuantizationAware) -> torch.Tensor:
    """Return the loss of (N, classes) logits: T² · KL to the teacher (Hinton et al. 2015, section 2) and, weighted, cross-entropy."""
    teacher = torch.as_tensor(batch.teacher_logits)
    soft, target = (functional.log_softmax(values / settings.temperature, dim=1) for values in (logits, teacher))
    loss = functional.kl_div(soft, target, reduction="batchmean", log_target=True) * settings.temperature**2
    if batch.labels is None or settings.labels == 0:
        return loss
    labels = torch.as_tensor(batch.labels)
    hard = functional.cross_entropy(logits, labels, ignore_index=UNLABELLED, reduction="sum") / (labels != UNLABELLED).sum().clamp_min(1)
    return (1 - settings.labels) * loss + settings.labels * hard


def answered(batch: Batch, graph: Graph) -> Batch:
    """Return a batch with answers to learn from: the teacher's, without one the fp32 student's own."""
    if batch.teacher_logits is not None:
        return batch
    with torch.no_grad():
        return batch._replace(teacher_logits=graph.module(centred(graph, batch.pixels_nhwc)).numpy())


def score(module: fx.GraphModule, graph: Graph, images: Batch) -> float:
    """Return the part of images that a module answers rightly: by their labels, without labels as the teacher or the fp32 student does."""
    right = total = 0
    for start in range(0, len(images.pixels_nhwc), _VALIDATED):
        some = Batch(*(value[start : start + _VALIDATED] if value is not None else None for value in images))  # type: ignore[arg-type]
        expected = some.labels if some.labels is not None else np.argmax(answered(some, graph).teacher_logits, axis=1)  # type: ignore[arg-type]
        with torch.no_grad():
            found = module(centred(graph, some.pixels_nhwc)).argmax(1).numpy()
        right, total = right + int((found == expected).sum()), total + len(expected)
    return right / max(total, 1)


def _steps(batches: Batches, settings: QuantizationAware) -> int:
    count = len(batches(0))
    if not count:
        raise ConvertError(
            f"there is no batch of {settings.batch_size} images to train on; lower export.qad.batch_size or give more images"
        )
    return count * settings.epochs


class _Best:
    """The state that answers most validation images rightly; of equals the latest. Without such images, the last one."""

    def __init__(self, module: fx.GraphModule, graph: Graph, images: Batch | None) -> None:
        self._graph, self._images, self._score = graph, images, -1.0
        self._state: dict[str, torch.Tensor] = {}
        self.look(module)

    def look(self, module: fx.GraphModule) -> None:
        """Keep a module's state if it is the best so far."""
        if self._images is None:
            return
        found = score(module, self._graph, self._images)
        if found >= self._score:
            self._score, self._state = found, {name: value.detach().clone() for name, value in module.state_dict().items()}

    def restored(self, module: fx.GraphModule) -> fx.GraphModule:
        """Return a module in its best state."""
        if self._state:
            module.load_state_dict(self._state)
        return module
