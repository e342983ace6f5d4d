"""Model output to answer: dequantize, softmax, top-k. Knows nothing of frames or interpreters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgedistill.bundle import Quantization


class Prediction(NamedTuple):
    """One answer: the class's number, its label and its probability (0 to 1)."""

    class_id: int
    label: str
    score: float


def dequantize(stored: np.ndarray, quantization: Quantization | None) -> np.ndarray:
    """Return float32 values of stored ones, always in new memory; the shape is kept."""
    if quantization is None:
        return stored.astype(np.float32)
    values = np.subtract(stored, quantization.zero_point, dtype=np.float32)
    values *= np.float32(quantization.scale)
    return values


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities over the last axis, in the dtype of `logits`."""
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


def top_k(logits: np.ndarray, labels: Sequence[str], *, k: int = 1, threshold: float = 0.0) -> tuple[Prediction, ...]:
    """Return the k likeliest classes, likeliest first, leaving out those below `threshold`.

    Args:
        logits: (classes,) float32; equal logits are ordered by index.
        labels: one a class.
        threshold: smallest probability to report, 0 to 1.
    """
    if logits.shape != (len(labels),):
        raise ValueError(f"expected logits of shape ({len(labels)},) for {len(labels)} labels, got {logits.shape}")
    # only the k reported classes are normalized: after an inference the caches are cold, and each further operation counts
    order = [int(logits.argmax())] if k == 1 else np.argsort(-logits, kind="stable")[:k].tolist()
    exponents = np.exp(logits - logits.max())
    total = float(exponents.sum())
    scores = [(i, float(exponents[i]) / total) for i in order]
    return tuple(Prediction(i, labels[i], score) for i, score in scores if score >= threshold)
