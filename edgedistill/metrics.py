"""Accuracy, agreement and calibration, in numpy on logits: the same figures for torch, ONNX and TFLite answers."""

from __future__ import annotations

import math

import numpy as np

from edgedistill.postprocess import softmax

#: Standard errors on each side of a 95 % interval.
_Z = 1.959964


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
    z = _Z
    centre = accuracy_value + z * z / (2 * images)
    spread = z * math.sqrt(accuracy_value * (1 - accuracy_value) / images + z * z / (4 * images * images))
    scale = 1 + z * z / images
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def median_interval(values_n: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of a median by order statistics, free of any assumption about the distribution.

    Of fewer than six values it is all of them, which covers less than 95 %.
    """
    ordered = np.sort(np.asarray(values_n, np.float64))
    left_out = _left_out(len(ordered))
    return float(ordered[left_out]), float(ordered[len(ordered) - 1 - left_out])


def _left_out(count: int) -> int:
    """Return how many values at each end are outside: so few heads come in at most 2.5 % of all series of coin throws."""
    if count > 1000:  # the chance of a single series is too small for a float
        return int(count / 2 - _Z / 2 * math.sqrt(count)) - 1
    chance = below = 0.5**count
    heads = 0
    while below <= 0.025:
        heads += 1
        chance *= (count - heads + 1) / heads
        below += chance
    return max(heads - 1, 0)


def drop_interval(expected_n: np.ndarray, found_n: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the accuracy lost by `found` against `expected` on the same images.

    Tango's score interval for paired proportions (Statistics in Medicine 17, 1998, eq. 3): it looks only at images on which one
    is right and the other wrong, and has a width where there are none.

    Args:
        expected_n: (N,) bool, whether the one that is compared with is right.
        found_n: (N,) bool, whether the other is.
    """
    lost, won, images = int(np.sum(expected_n & ~found_n)), int(np.sum(found_n & ~expected_n)), len(expected_n)
    return -_highest_drop(won, lost, images), _highest_drop(lost, won, images)


def _highest_drop(lost: int, won: int, images: int) -> float:
    """Return the largest drop that is less than 1.96 standard errors from the observed one, by bisection."""
    low, high = (lost - won) / images, 1.0
    for _ in range(60):
        drop = (low + high) / 2
        b = (2 * images - lost + won) * drop - lost - won
        c = -won * drop * (1 - drop)
        # The likeliest fraction of images won if the drop were this one.
        fraction = (math.sqrt(max(0.0, b * b - 8 * images * c)) - b) / (4 * images)
        error = math.sqrt(max(0.0, images * (2 * fraction + drop * (1 - drop))))
        if images * drop - (lost - won) <= _Z * error:
            low = drop
        else:
            high = drop
    return (low + high) / 2
