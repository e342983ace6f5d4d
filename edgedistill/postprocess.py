"""Model output to answer: dequantize, softmax, top-k. Knows nothing of frames or interpreters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgedistill.bundle import Quantization

#: Up to so many classes are found one after the other; for more, all are sorted, which takes memory.
FEW = 16


class Prediction(NamedTuple):
    """One answer: the class's number, its label and its probability (0 to 1)."""

    class_id: int
    label: str
    score: float


def dequantize(stored: np.ndarray, quantization: Quantization | None, *, into: np.ndarray | None = None) -> np.ndarray:
    """Return float32 values of stored ones, never in their memory; the shape is kept.

    Args:
        into: float32 memory for them; new by default.
    """
    values = np.empty(stored.shape, np.float32) if into is None else into
    np.copyto(values, stored)
    if quantization is not None:
        np.subtract(values, np.float32(quantization.zero_point), out=values)
        np.multiply(values, np.float32(quantization.scale), out=values)
    return values


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities over the last axis, in the dtype of `logits`."""
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


def log_probabilities(probabilities: np.ndarray, *, into: np.ndarray | None = None) -> np.ndarray:
    """Return float32 logits whose softmax are these probabilities; a probability of 0 gives the logarithm of the smallest float32.

    So all that takes logits goes on unchanged behind a file with softmax in its graph.

    Args:
        into: float32 memory for them, which may be that of the probabilities; new by default.
    """
    logits = np.empty(probabilities.shape, np.float32) if into is None else into
    np.maximum(probabilities, np.finfo(np.float32).tiny, out=logits)
    return np.log(logits, out=logits)


class TopK:
    """Finds the k likeliest classes, likeliest first, leaving out those below `threshold`; its memory is used again for each answer.

    Args:
        labels: one a class.
        threshold: smallest probability to report, 0 to 1.
        watched: numbers of classes that `watched` is to know of.
    """

    def __init__(self, labels: Sequence[str], *, k: int = 1, threshold: float = 0.0, watched: Sequence[int] = ()) -> None:
        self._labels, self._k, self._threshold = labels, min(k, len(labels)), threshold
        self._scratch = np.empty(len(labels), np.float32)
        self._total = 1.0
        self._watched = np.array(sorted(watched), np.intp)
        self._of_watched = np.empty(len(watched), np.float32)

    def __call__(self, logits: np.ndarray) -> tuple[Prediction, ...]:
        """Return the answer to (classes,) float32 logits; equal ones are ordered by index."""
        if logits.shape != self._scratch.shape:
            count = len(self._labels)
            raise ValueError(f"expected logits of shape ({count},) for {count} labels, got {logits.shape}")
        # only the k reported classes are normalized: after an inference the caches are cold, and each further operation counts
        order = self._order(logits)
        exponents = np.subtract(logits, logits.max(), out=self._scratch)
        np.exp(exponents, out=exponents)
        self._total = total = float(exponents.sum())
        scores = [(i, float(exponents[i]) / total) for i in order]
        return tuple([Prediction(i, self._labels[i], score) for i, score in scores if score >= self._threshold])

    def watched(self) -> Prediction | None:
        """Return the likeliest watched class of the newest answer, whatever `k` and `threshold` left out; None if none is watched."""
        if not len(self._watched):
            return None
        # a mode other than raise, or numpy would take memory for the result before it copies it
        place = self._scratch.take(self._watched, out=self._of_watched, mode="clip").argmax()
        class_id = int(self._watched[place])
        return Prediction(class_id, self._labels[class_id], float(self._of_watched[place]) / self._total)

    def _order(self, logits: np.ndarray) -> list[int]:
        if self._k == 1:
            return [int(logits.argmax())]
        if self._k > FEW:
            return [int(i) for i in np.argsort(-logits, kind="stable")[: self._k]]
        rest = np.maximum(logits, np.finfo(np.float32).min, out=self._scratch)
        order = []
        for _ in range(self._k):
            order.append(int(rest.argmax()))
            rest[order[-1]] = -np.inf
        return order


def top_k(logits: np.ndarray, labels: Sequence[str], *, k: int = 1, threshold: float = 0.0) -> tuple[Prediction, ...]:
    """Return the k likeliest classes, see `TopK`, of (classes,) float32 logits."""
    return TopK(labels, k=k, threshold=threshold)(logits)
