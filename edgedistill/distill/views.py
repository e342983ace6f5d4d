"""Augmented views as a pure function of (seed, view, image): the same view in any worker, process, order or resumed run.

Teachers and students are shown the same view. Without augmentation a view is what `preprocess.Preprocessor` makes of
the image on the device. Raise `VERSION` with any change of the pixels that come out.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from edgedistill.bundle import Preprocess
from edgedistill.preprocess import Preprocessor, center_crop
from edgedistill.recipe import Augment

VERSION = 1
BORDERS = {"reflect": cv2.BORDER_REFLECT_101, "black": cv2.BORDER_CONSTANT}


class ViewKey(NamedTuple):
    """What a view depends on beside the image: the recipe's seed, the view's number and the image's number in its source."""

    seed: int
    view: int
    image: int


def make_view(frame_bgr: np.ndarray, key: ViewKey, *, augment: Augment, spec: Preprocess) -> np.ndarray:
    """Return one view, (spec.height, spec.width, 3) uint8 RGB.

    Args:
        frame_bgr: (H, W, 3) uint8.
        key: the same key always gives the same view.
        augment: the random changes; `Augment()` gives the device's own preprocessing.
        spec: size, resize mode and interpolation of the student's input, with raw pixels in RGB order.
    """
    if augment == Augment():
        return Preprocessor(spec)(frame_bgr)[0]
    rng = np.random.Generator(np.random.Philox(key=np.array([key.seed, key.view], np.uint64), counter=[key.image, 0, 0, 0]))
    view = _geometry(frame_bgr, rng, augment, spec)
    view = _photometry(view, rng, augment)
    return cv2.cvtColor(view, cv2.COLOR_BGR2RGB)


def _geometry(frame_bgr: np.ndarray, rng: np.random.Generator, augment: Augment, spec: Preprocess) -> np.ndarray:
    """Crop, shrink to at most twice the view's size without aliasing, then one affine warp for all random changes."""
    source = center_crop(frame_bgr, spec.height, spec.width) if spec.resize == "crop" else frame_bgr
    limit = (min(source.shape[1], 2 * spec.width), min(source.shape[0], 2 * spec.height))
    if limit != (source.shape[1], source.shape[0]):
        source = cv2.resize(source, limit, interpolation=cv2.INTER_AREA)
    zoom = np.exp(rng.uniform(*np.log(augment.scale)))
    stretch = np.exp(rng.uniform(-1, 1) * np.log(augment.aspect) / 2)
    angle = np.deg2rad(rng.uniform(-1, 1) * augment.rotate_deg)
    shift_xy = rng.uniform(-1, 1, 2) * augment.shift * (spec.width, spec.height)
    mirror = -1.0 if augment.flip and rng.random() < 0.5 else 1.0
    to_view = np.array([[spec.width / source.shape[1], 0], [0, spec.height / source.shape[0]]])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag([zoom * stretch * mirror, zoom / stretch]) @ to_view
    # pixel centres: the source's centre goes to the view's centre, plus the shift
    centre_source = np.array([source.shape[1] - 1, source.shape[0] - 1]) / 2
    centre_view = np.array([spec.width - 1, spec.height - 1]) / 2 + shift_xy
    affine = np.column_stack([matrix, centre_view - matrix @ centre_source])
    return cv2.warpAffine(source, affine, (spec.width, spec.height), flags=cv2.INTER_LINEAR, borderMode=BORDERS[augment.border])


def _photometry(view: np.ndarray, rng: np.random.Generator, augment: Augment) -> np.ndarray:
    """Brightness and contrast by a table, then blur, noise and an erased square; draws do not depend on each other's limits."""
    contrast, brightness = 1 + rng.uniform(-1, 1) * augment.contrast, rng.uniform(-1, 1) * augment.brightness * 255
    sigma, deviation, side = rng.random(3) * (augment.blur, augment.noise * 255, augment.erase)
    at_yx, grey = rng.random(2), int(rng.integers(256))
    if augment.contrast or augment.brightness:
        view = cv2.LUT(view, np.clip((np.arange(256) - 128) * contrast + 128 + brightness, 0, 255).astype(np.uint8))
    if sigma > 0.2:
        view = cv2.GaussianBlur(view, (0, 0), sigma)
    if deviation > 0.5:
        noise = rng.normal(0, deviation, view.shape[:2]).astype(np.int16)
        view = np.clip(view.astype(np.int16) + noise[:, :, None], 0, 255).astype(np.uint8)
    if side:
        height, width = (int(side * length) for length in view.shape[:2])
        top, left = int(at_yx[0] * (view.shape[0] - height)), int(at_yx[1] * (view.shape[1] - width))
        view[top : top + height, left : left + width] = grey
    return view
