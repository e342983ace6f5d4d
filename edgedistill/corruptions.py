"""Photographs made worse on purpose: what a student does in bad light and out of focus, by the same images as before.

Each takes a strength that a person can picture; 0 changes nothing. Hendrycks and Dietterich 2019 have the wider set of these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from edgedistill.errors import RecipeError, close_matches


class Corruption(NamedTuple):
    """A corruption by its name in `CORRUPTIONS`, and its strength."""

    name: str
    strength: float

    def __call__(self, frame_bgr: np.ndarray) -> np.ndarray:
        """Return the corrupted frame, (H, W, 3) uint8 BGR."""
        return CORRUPTIONS[self.name](frame_bgr, self.strength)

    def __str__(self) -> str:
        return f"{self.name}={self.strength:g}"


def blur(frame_bgr: np.ndarray, strength: float) -> np.ndarray:
    """Blur by a Gaussian whose sigma is `strength` percent of the shorter side."""
    sigma = strength / 100 * min(frame_bgr.shape[:2])
    return cv2.GaussianBlur(frame_bgr, (0, 0), sigma) if sigma > 0 else frame_bgr


def dark(frame_bgr: np.ndarray, strength: float) -> np.ndarray:
    """Take `strength` percent of the light away."""
    return np.clip(np.rint(frame_bgr * (1 - strength / 100)), 0, 255).astype(np.uint8)


def noise(frame_bgr: np.ndarray, strength: float) -> np.ndarray:
    """Add Gaussian noise whose deviation is `strength` percent of white; the same noise for the same size of frame."""
    rng = np.random.Generator(np.random.Philox(0))
    return np.clip(np.rint(frame_bgr + rng.normal(0, strength / 100 * 255, frame_bgr.shape)), 0, 255).astype(np.uint8)


CORRUPTIONS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {"blur": blur, "dark": dark, "noise": noise}


def parse(text: str) -> Corruption:
    """Return the corruption that NAME=PERCENT stands for; RecipeError for another name or a strength outside of 0 to 100."""
    name, _, value = text.partition("=")
    if name not in CORRUPTIONS:
        raise RecipeError(f"unknown corruption {name!r}.{close_matches(name, CORRUPTIONS)} Known: {', '.join(CORRUPTIONS)}")
    try:
        strength = float(value)
    except ValueError:
        strength = -1.0
    if not 0 <= strength <= 100:
        raise RecipeError(f"{text!r}: expected {name}=PERCENT with a number from 0 to 100, such as {name}=2")
    return Corruption(name, strength)
