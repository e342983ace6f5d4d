"""`probe = true`: a backbone without a head becomes a teacher by a linear layer that is trained on its features.

Multinomial logistic regression on the standardized features of the images as they are, without augmentation; its L2 strength is
the one that fits the validation images best (the linear evaluation of Oquab et al. 2023, "DINOv2"). Kept on disk, used again for
the same backbone, data and preprocessing only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional

from edgedistill.bundle import write_atomically
from edgedistill.distill import heads, networks
from edgedistill.distill.images import ImageSet
from edgedistill.distill.networks import Network
from edgedistill.distill.predict import answers_on
from edgedistill.distill.teachers.network import NetworkTeacher
from edgedistill.distill.teachers.opening import Opened, Opening
from edgedistill.errors import ModelError, RecipeError

#: Raise with any change of what is trained.
VERSION = 1
#: L2 strengths that are tried, strongest first: each starts from the one before.
STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
FINGERPRINT = "fingerprint"


class Probe(NamedTuple):
    """A linear layer: (classes, features) weight, (classes,) bias."""

    weight: torch.Tensor
    bias: torch.Tensor


class Labelled(NamedTuple):
    """(N, features) float32 features, (N,) int64 labels."""

    features: torch.Tensor
    labels: torch.Tensor


def open_probe(opening: Opening) -> Opened:
    """Return a backbone with a trained linear layer in the place of its head."""
    spec, classes = opening.spec, opening.splits.classes
    if not spec.weights:
        raise RecipeError(f"teacher.probe: {spec.model} without weights knows nothing; name the backbone's weights")
    if spec.mapping or spec.classes:
        raise RecipeError("teacher.probe: a probe is trained on the data's own classes; take classes and mapping out")
    network = networks.build(msgspec.structs.replace(spec, new_head=True), classes)
    name, head = heads.linear_of(network.module, whose=spec.model)
    heads.put(network.module, name, nn.Identity())
    network.module.to(opening.device)
    fingerprint = fingerprint_of(network, opening)
    file = folder_of(opening) / f"{re.sub(r'[^A-Za-z0-9]+', '-', spec.model)}-{fingerprint[:16]}.safetensors"
    probe = read(file, fingerprint)
    if probe is None:
        probe = train(network, opening)
        write(file, probe, fingerprint)
    layer = nn.Linear(head.in_features, len(classes))
    layer.load_state_dict(probe._asdict())
    heads.put(network.module, name, layer)
    return Opened(NetworkTeacher(network), len(classes), classes)


def folder_of(opening: Opening) -> Path:
    """Return where probes are kept."""
    folder = opening.recipe.cache.folder
    if folder:
        return Path(folder).expanduser() / "probes"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgedistill" / "probes"


def fingerprint_of(network: Network, opening: Opening) -> str:
    """Return the SHA-256 of everything that a probe depends on."""
    student, splits = opening.recipe.student, opening.splits
    parts = {
        "version": VERSION,
        "torch": torch.__version__,
        "backbone": dict(NetworkTeacher(network).identity),
        "view": [student.resize, student.interpolation],
        "data": [splits.train.sha256, splits.validation.sha256],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def train(network: Network, opening: Opening) -> Probe:
    """Return the probe of the best L2 strength, and say what it gets right."""
    splits, classes = opening.splits, len(opening.splits.classes)
    train_set, validation = (features_of(network, images, opening) for images in (splits.train, splits.validation))
    best: tuple[float, float, float, Probe] | None = None
    start: Probe | None = None
    for done, strength in enumerate(STRENGTHS, start=1):
        start = fit(train_set, strength=strength, classes=classes, start=start)
        logits = functional.linear(validation.features, *start)
        loss = float(functional.cross_entropy(logits, validation.labels))
        if best is None or loss < best[0]:
            best = (loss, strength, float((logits.argmax(1) == validation.labels).float().mean()), start)
        opening.progress("training the probe", done, len(STRENGTHS))
    assert best is not None
    _, strength, accuracy, probe = best
    count = f"{len(train_set.labels):,} images, {len(probe.weight[0]):,} features, L2 {strength:g}"
    opening.say(f"probe of {network.name}: {count}; {accuracy:.1%} of the {len(validation.labels)} validation images")
    return probe


def features_of(network: Network, images: ImageSet, opening: Opening) -> Labelled:
    """Return the backbone's features of the images as they are."""
    tick = lambda done, total: opening.progress("features for the probe", done, total)  # noqa: E731
    features = answers_on(NetworkTeacher(network), images, student=opening.recipe.student, tick=tick)
    if features.ndim != 2 or not np.isfinite(features).all():
        shown = f"features of shape {features.shape[1:]}" if features.ndim != 2 else "features that are not finite"
        raise ModelError(f"{network.name} gives {shown}; a probe takes one finite number a feature; use another backbone or weights")
    return Labelled(torch.from_numpy(features), torch.from_numpy(images.labels))


def fit(data: Labelled, *, strength: float, classes: int, start: Probe | None = None) -> Probe:
    """Return the probe with the least cross-entropy + strength / 2 · |weights of standardized features|²."""
    mean, deviation = data.features.mean(0), data.features.std(0, correction=0)
    deviation = torch.where(deviation < 1e-6, 1.0, deviation)
    standardized = (data.features - mean) / deviation
    weight, bias = torch.zeros(classes, len(mean)), torch.zeros(classes)
    if start is not None:
        weight, bias = start.weight * deviation, start.bias + start.weight @ mean
    parameters = [weight.requires_grad_(), bias.requires_grad_()]
    optimizer = torch.optim.LBFGS(parameters, max_iter=100, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        loss = functional.cross_entropy(functional.linear(standardized, weight, bias), data.labels) + strength / 2 * weight.square().sum()
        loss.backward()
        return loss.detach().item()

    optimizer.step(closure)
    with torch.no_grad():
        unscaled = weight / deviation
        return Probe(unscaled, bias - unscaled @ mean)


def read(file: Path, fingerprint: str) -> Probe | None:
    """Return the probe in a file, None where there is none, or one of something else."""
    try:
        with safetensors.safe_open(file, framework="pt") as stored:
            if (stored.metadata() or {}).get(FINGERPRINT) != fingerprint:
                return None
            return Probe(stored.get_tensor("weight"), stored.get_tensor("bias"))
    except (OSError, safetensors.SafetensorError):
        return None


def write(file: Path, probe: Probe, fingerprint: str) -> None:
    """Keep a probe."""
    tensors: dict[str, Any] = {name: tensor.detach().contiguous() for name, tensor in probe._asdict().items()}
    write_atomically(file, safetensors.torch.save(tensors, metadata={FINGERPRINT: fingerprint}))
