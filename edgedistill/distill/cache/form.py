"""How logits become rows of a file and logits again.

Dense: each sample's logits minus their mean, which no loss can see. Top-k: the log-probabilities of the k likeliest classes,
their numbers, and the logarithm of the mass of all others, which are given equal parts of it when they are read.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from edgedistill.errors import ModelError
from edgedistill.recipe import Cache

#: Up to this many classes all logits are kept; above it the top DEFAULT_TOP_K.
DENSE_CLASSES = 1000
DEFAULT_TOP_K = 100


class Form(msgspec.Struct, frozen=True):
    """The form of one sample's logits; `top_k` is None for all of them."""

    classes: int
    precision: str
    top_k: int | None

    @classmethod
    def of(cls, cache: Cache, classes: int) -> Form:
        """Return the form that a recipe asks for."""
        top_k = cache.top_k or (DEFAULT_TOP_K if classes > DENSE_CLASSES else None)
        return cls(classes, cache.precision, top_k if top_k is not None and top_k < classes else None)

    @property
    def number(self) -> np.dtype:
        """The type of a stored number."""
        return np.dtype("<f2" if self.precision == "fp16" else "<f4")

    @property
    def dtype(self) -> np.dtype:
        """The type of a row."""
        if self.top_k is None:
            return np.dtype([("logits", self.number, (self.classes,))])
        index = "<u2" if self.classes <= 2**16 else "<u4"
        return np.dtype([("log_probs", self.number, (self.top_k,)), ("classes", index, (self.top_k,)), ("log_tail", "<f4")])

    def encode(self, logits_nc: np.ndarray) -> np.ndarray:
        """Return (N,) rows; ModelError for logits that are not finite, or too large to be kept."""
        logits = logits_nc.astype(np.float64)
        rows = np.empty(len(logits), self.dtype)
        if self.top_k is None:
            rows["logits"] = kept(logits - logits.mean(axis=1, keepdims=True), self.number)
            _keep_decisions(rows["logits"], logits.argmax(axis=1))
        else:
            log_probs = logits - _log_sum(logits)[:, None]
            order = np.argsort(-logits, axis=1, kind="stable")
            top, rest = order[:, : self.top_k], order[:, self.top_k :]
            rows["log_probs"] = kept(np.take_along_axis(log_probs, top, axis=1), self.number)
            rows["classes"] = top
            rows["log_tail"] = kept(_log_sum(np.take_along_axis(log_probs, rest, axis=1)), np.dtype("<f4"))
            _keep_decisions(rows["log_probs"], np.zeros(len(rows), np.int64), others_n=self._even(rows))
        return rows

    def decode(self, rows: np.ndarray) -> np.ndarray:
        """Return (N, classes) float32 logits."""
        if self.top_k is None:
            return rows["logits"].astype(np.float32)
        logits = np.repeat(self._even(rows)[:, None], self.classes, axis=1)
        np.put_along_axis(logits, rows["classes"].astype(np.int64), rows["log_probs"].astype(np.float32), axis=1)
        return logits

    def beside(self, rows: np.ndarray, logits_nc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers that rows hold and, in the same order, those that the logits are there, both float64 with N rows."""
        logits = logits_nc.astype(np.float64)
        if self.top_k is None:
            return rows["logits"].astype(np.float64), logits - logits.mean(axis=1, keepdims=True)
        log_probs = logits - _log_sum(logits)[:, None]
        return rows["log_probs"].astype(np.float64), np.take_along_axis(log_probs, rows["classes"].astype(np.int64), axis=1)

    def _even(self, rows: np.ndarray) -> np.ndarray:
        """Return (N,) log-probabilities of each class that is not among the top ones."""
        return rows["log_tail"] - np.float32(np.log(self.classes - (self.top_k or 0)))


def kept(values: np.ndarray, number: np.dtype) -> np.ndarray:
    """Return values in the type that they are kept in; ModelError where one does not survive it."""
    with np.errstate(over="ignore"):
        stored = values.astype(number)
    if not np.isfinite(stored).all():
        worst = np.abs(values[~np.isfinite(stored)]).max()
        raise ModelError(
            f"the teacher answers {worst:.4g}, which cannot be kept in {8 * number.itemsize} bits; check the teacher, or set "
            'cache.precision = "fp32" or cache.enabled = false'
        )
    return stored


def _log_sum(values_nc: np.ndarray) -> np.ndarray:
    """Return the logarithm of the sum of exponentials of each row."""
    largest = values_nc.max(axis=1, keepdims=True)
    return (largest + np.log(np.exp(values_nc - largest).sum(axis=1, keepdims=True)))[:, 0]


def _keep_decisions(stored_nc: np.ndarray, decisions: np.ndarray, *, others_n: np.ndarray | None = None) -> None:
    """Where rounding made the decided class no larger than another one, raise it by the smallest step, in place.

    Args:
        others_n: (N,) the logit of the classes that are not in `stored_nc`.
    """
    rows = np.arange(len(stored_nc))
    largest = stored_nc.max(axis=1)
    ties = (stored_nc == largest[:, None]).sum(axis=1) > 1
    if others_n is not None:
        ties |= others_n >= largest
    up: Callable[..., np.ndarray] = np.nextafter
    raised = up(stored_nc[rows, decisions], np.array(np.inf, stored_nc.dtype))
    stored_nc[rows[ties], decisions[ties]] = raised[ties]
