"""Augmented views as a pure function of (seed, view, image): the same view in any worker, process, order or resumed run.

Teachers and students are shown the same view. Without augmentation a view is what `preprocess.Preprocessor` makes of
the image on the device. Mixed views (mixup, cutmix) are made of two such views. Raise `VERSION` with any change of the
pixels that come out.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import msgspec
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
        augment: the random changes; `Augment()` gives the device's own preprocessing. Mixing is left to `mix`.
        spec: size, resize mode and interpolation of the student's input, with raw pixels in RGB order.
    """
    if msgspec.structs.replace(augment, mixup=0.0, cutmix=0.0) == Augment():
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


def mixes(augment: Augment) -> bool:
    """Return whether views are made of two images."""
    return augment.mixup > 0 or augment.cutmix > 0


def mixing(key: ViewKey) -> np.random.Generator:
    """Return the draws for mixing a view: others than those of the view itself, and like them a pure function of the key."""
    return np.random.Generator(np.random.Philox(key=np.array([key.seed, key.view], np.uint64), counter=[0, key.image, 0, 1]))


def partner_of(position: int, images: int, rng: np.random.Generator) -> int:
    """Return the position of another image of the set, each as likely as any other."""
    return (position + 1 + int(rng.integers(images - 1))) % images if images > 1 else position


def mix(view: np.ndarray, other: np.ndarray, rng: np.random.Generator, augment: Augment) -> tuple[np.ndarray, float]:
    """Return two views as one, and exactly how much of it is the first; where both kinds are on, each is used for half of the views.

    Args:
        view: (H, W, 3) uint8; other: the same of another image.
    """
    if augment.cutmix and (not augment.mixup or rng.random() < 0.5):
        return cutmix(view, other, rng, alpha=augment.cutmix)
    return mixup(view, other, rng, alpha=augment.mixup)


def mixup(view: np.ndarray, other: np.ndarray, rng: np.random.Generator, *, alpha: float) -> tuple[np.ndarray, float]:
    """Blend two views by a share from Beta(alpha, alpha), in steps of 1/256 so that it is exact (Zhang et al. 2018, eq. 1)."""
    weight = round(rng.beta(alpha, alpha) * 256)
    blend = view.astype(np.uint16) * weight + other.astype(np.uint16) * (256 - weight)
    return ((blend + 128) >> 8).astype(np.uint8), weight / 256


def cutmix(view: np.ndarray, other: np.ndarray, rng: np.random.Generator, *, alpha: float) -> tuple[np.ndarray, float]:
    """Take a rectangle from the other view, of the area 1 - Beta(alpha, alpha) before it is cut at the border (Yun et al. 2019, eq. 2)."""
    height, width = view.shape[:2]
    side = np.sqrt(1 - rng.beta(alpha, alpha))
    centre_y, centre_x = rng.integers(height), rng.integers(width)
    top, bottom = (int(np.clip(centre_y + sign * height * side / 2, 0, height)) for sign in (-1, 1))
    left, right = (int(np.clip(centre_x + sign * width * side / 2, 0, width)) for sign in (-1, 1))
    mixed = view.copy()
    mixed[top:bottom, left:right] = other[top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)
