"""Accuracy, agreement and calibration, in numpy on logits: the same figures for torch, ONNX and TFLite answers."""

from __future__ import annotations

import math

import numpy as np

from edgedistill.postprocess import softmax


def accuracy(logits_nc: np.ndarray, labels_n: np.ndarray) -> float:
    """Return top-1 accuracy, 0 to 1."""
    return float(np.mean(logits_nc.argmax(axis=1) == labels_n))


def agreement(a_nc: np.ndarray, b_nc: np.ndarray) -> float:
    """Return the fraction of images on which two networks have the same top-1 class."""
    return float(np.mean(a_nc.argmax(axis=1) == b_nc.argmax(axis=1)))


def confusion_matrix(logits_nc: np.ndarray, labels_n: np.ndarray) -> np.ndarray:
    """Return (classes, classes) int64 counts; rows are the true classes, columns the predicted ones."""
    classes = logits_nc.shape[1]
    flat = labels_n.astype(np.int64) * classes + logits_nc.argmax(axis=1)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def negative_log_likelihood(logits_nc: np.ndarray, labels_n: np.ndarray) -> float:
    """Return the mean of -log p(true class), in nats."""
    shifted = logits_nc - logits_nc.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    return float(np.mean(log_sum - shifted[np.arange(len(labels_n)), labels_n]))


def expected_calibration_error(logits_nc: np.ndarray, labels_n: np.ndarray, *, bins: int = 15) -> float:
    """Return the ECE with equal-width bins (Guo et al. 2017, eq. 5), 0 to 1."""
    probabilities = softmax(logits_nc)
    confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    hits = np.bincount(bin_of, weights=predicted == labels_n, minlength=bins)
    total = np.bincount(bin_of, weights=confidence, minlength=bins)
    return float(np.abs(hits - total).sum() / len(labels_n))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the cosine of the angle between two arrays of one shape; 1 for two zero arrays."""
    norm = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(np.dot(a.ravel(), b.ravel())) / norm if norm else float(np.array_equal(a, b))


def accuracy_interval(accuracy_value: float, images: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of an accuracy measured on `images` images."""
    z = 1.959964
    centre = accuracy_value + z * z / (2 * images)
    spread = z * math.sqrt(accuracy_value * (1 - accuracy_value) / images + z * z / (4 * images * images))
    scale = 1 + z * z / images
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
