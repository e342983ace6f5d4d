"""Views are a pure function of their key, and without augmentation the device's own preprocessing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.bundle import Preprocess
from edgedistill.distill.views import ViewKey, make_view
from edgedistill.preprocess import Preprocessor
from edgedistill.recipe import Augment

ALL = Augment(
    flip=True, scale=(0.7, 1.4), aspect=1.2, shift=0.2, rotate_deg=20, brightness=0.2, contrast=0.3, blur=1.0, noise=0.05, erase=0.3
)
SPEC = Preprocess(height=28, width=28, resize="crop", interpolation="area")


def photograph(height: int = 40, width: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def gradient(size: int = 28) -> np.ndarray:
    """Return an image that brightens from left to right only."""
    return np.repeat(np.linspace(0, 250, size).astype(np.uint8)[None, :, None], size, 0).repeat(3, 2)


@given(seed=st.integers(0, 2**31 - 1), view=st.integers(0, 10_000), image=st.integers(0, 2**40))
def test_same_key_same_view(seed: int, view: int, image: int) -> None:
    key = ViewKey(seed, view, image)
    first = make_view(photograph(), key, augment=ALL, spec=SPEC)
    assert first.shape == (28, 28, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, make_view(photograph(), key, augment=ALL, spec=SPEC))


@pytest.mark.parametrize("other", [ViewKey(1, 0, 0), ViewKey(0, 1, 0), ViewKey(0, 0, 1)])
def test_each_part_of_the_key_changes_the_view(other: ViewKey) -> None:
    first = make_view(photograph(), ViewKey(0, 0, 0), augment=ALL, spec=SPEC)
    assert not np.array_equal(first, make_view(photograph(), other, augment=ALL, spec=SPEC))


def test_views_do_not_depend_on_the_global_random_state() -> None:
    first = make_view(photograph(), ViewKey(3, 4, 5), augment=ALL, spec=SPEC)
    np.random.seed(99)
    np.random.random(1000)
    assert np.array_equal(first, make_view(photograph(), ViewKey(3, 4, 5), augment=ALL, spec=SPEC))


@given(height=st.integers(1, 90), width=st.integers(1, 90), resize=st.sampled_from(["crop", "stretch"]))
def test_without_augmentation_a_view_is_the_device_s_input(height: int, width: int, resize: str) -> None:
    spec = Preprocess(height=28, width=20, resize=resize, interpolation="area")  # type: ignore[arg-type]
    frame = photograph(height, width)
    view = make_view(frame, ViewKey(0, 0, 0), augment=Augment(), spec=spec)
    assert np.array_equal(view, Preprocessor(spec)(frame)[0])


def test_limits_of_nothing_leave_an_image_of_the_view_s_size_alone() -> None:
    """The warp's pixel centres are right: with a flip as the only change, half of the views are the image itself."""
    frame = photograph(28, 28)
    rgb = frame[:, :, ::-1]
    views = [make_view(frame, ViewKey(0, view, 0), augment=Augment(flip=True), spec=SPEC) for view in range(40)]
    straight = sum(np.array_equal(view, rgb) for view in views)
    mirrored = sum(np.array_equal(view, rgb[:, ::-1]) for view in views)
    assert straight + mirrored == 40
    assert 8 <= straight <= 32


def test_colours_come_out_as_rgb() -> None:
    red_bgr = np.zeros((28, 28, 3), np.uint8)
    red_bgr[:, :, 2] = 255
    view = make_view(red_bgr, ViewKey(0, 0, 0), augment=Augment(flip=True), spec=SPEC)
    assert view[14, 14].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("augment", "least", "most"),
    [
        (Augment(brightness=0.2), 128 - 52, 128 + 52),
        (Augment(contrast=0.5), 128, 128),
    ],
)
def test_photometric_limits_on_mid_grey(augment: Augment, least: int, most: int) -> None:
    grey = np.full((28, 28, 3), 128, np.uint8)
    values = [int(make_view(grey, ViewKey(0, view, 0), augment=augment, spec=SPEC)[5, 5, 0]) for view in range(200)]
    assert least <= min(values)
    assert max(values) <= most
    assert (max(values) - min(values) > 60) == (most > least)


def test_shift_moves_the_image_both_ways_within_its_limit() -> None:
    """On a gradient of 250/27 grey levels a pixel, a shift of at most 0.25 · 28 = 7 pixels moves the centre by at most 65 levels."""
    centre = [int(make_view(gradient(), ViewKey(0, view, 0), augment=Augment(shift=0.25), spec=SPEC)[14, 14, 0]) for view in range(200)]
    expected = int(gradient()[14, 14, 0])
    assert expected - 68 <= min(centre) < expected - 30
    assert expected + 30 < max(centre) <= expected + 68


@pytest.mark.parametrize(("scale", "narrower"), [((0.5, 0.5), True), ((2.0, 2.0), False)])
def test_scale_shrinks_and_grows(scale: tuple[float, float], narrower: bool) -> None:
    square = np.zeros((28, 28, 3), np.uint8)
    square[7:21, 7:21] = 255
    view = make_view(square, ViewKey(0, 0, 0), augment=Augment(scale=scale, border="black"), spec=SPEC)
    assert ((view[14, :, 0] > 127).sum() < 14) == narrower


def test_black_border_where_the_image_ends() -> None:
    white = np.full((28, 28, 3), 255, np.uint8)
    black = make_view(white, ViewKey(0, 0, 0), augment=Augment(scale=(0.5, 0.5), border="black"), spec=SPEC)
    mirrored = make_view(white, ViewKey(0, 0, 0), augment=Augment(scale=(0.5, 0.5)), spec=SPEC)
    assert black[0, 0, 0] == 0
    assert mirrored[0, 0, 0] == 255


def test_erasing_covers_at_most_its_share() -> None:
    black = np.zeros((28, 28, 3), np.uint8)
    shares = [np.mean(make_view(black, ViewKey(0, view, 0), augment=Augment(erase=0.5), spec=SPEC) > 0) for view in range(100)]
    assert max(shares) <= 0.25
    assert max(shares) > 0.15


def test_large_photographs_are_shrunk_without_aliasing() -> None:
    """A fine checkerboard must become grey, not a moiré pattern."""
    board = ((np.indices((400, 400)).sum(0) % 2) * 255).astype(np.uint8)[:, :, None].repeat(3, 2)
    view = make_view(board, ViewKey(0, 0, 0), augment=Augment(flip=True), spec=SPEC)
    assert view.min() > 100
    assert view.max() < 156
