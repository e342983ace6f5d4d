"""Views are a pure function of their key, and without augmentation the device's own preprocessing."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.bundle import Preprocess
from edgedistill.distill.views import ViewKey, cutmix, make_view, mix, mixing, mixup, partner_of
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


def test_mixup_blends_in_whole_steps_and_tells_the_exact_share() -> None:
    view, other = np.full((4, 4, 3), 200, np.uint8), np.full((4, 4, 3), 100, np.uint8)
    for image in range(100):
        mixed, share = mixup(view, other, mixing(ViewKey(0, 0, image)), alpha=1.0)
        assert (share * 256).is_integer()
        assert np.all(mixed == int(100 + 100 * share + 0.5))


def test_mixup_of_a_view_with_itself_is_the_view() -> None:
    view = photograph(8, 8)
    mixed, _ = mixup(view, view, mixing(ViewKey(0, 0, 3)), alpha=0.5)
    assert np.array_equal(mixed, view)


def test_cutmix_takes_one_rectangle_of_exactly_the_rest_of_the_share() -> None:
    view, other = np.zeros((10, 6, 3), np.uint8), np.ones((10, 6, 3), np.uint8)
    shares = []
    for image in range(100):
        mixed, share = cutmix(view, other, mixing(ViewKey(0, 0, image)), alpha=1.0)
        taken = mixed[:, :, 0]
        assert taken.mean() == pytest.approx(1 - share)
        rows, columns = np.flatnonzero(taken.any(axis=1)), np.flatnonzero(taken.any(axis=0))
        assert taken.sum() == len(rows) * len(columns)
        shares.append(share)
    assert 0 <= min(shares) < 0.3
    assert 0.8 < max(shares) <= 1


def test_shares_of_mixup_have_the_mean_and_spread_of_a_beta() -> None:
    """Beta(a, a) has mean 1/2 and variance 1 / (4 (2a + 1))."""
    view = np.zeros((1, 1, 3), np.uint8)
    shares = [mixup(view, view, mixing(ViewKey(1, 2, image)), alpha=0.5)[1] for image in range(2000)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    assert np.var(shares) == pytest.approx(0.125, abs=0.01)


def test_with_both_kinds_each_is_drawn_for_half_of_the_views() -> None:
    view, other = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)
    augment = Augment(mixup=1.0, cutmix=1.0)
    cut = [set(np.unique(mix(view, other, mixing(ViewKey(0, 0, image)), augment)[0])) <= {0, 255} for image in range(300)]
    assert 110 < sum(cut) < 190


@given(seed=st.integers(0, 2**31 - 1), view=st.integers(0, 10_000), image=st.integers(0, 2**40), images=st.integers(1, 50))
def test_a_partner_is_another_image_and_follows_from_the_key(seed: int, view: int, image: int, images: int) -> None:
    position = image % images
    first, second = (partner_of(position, images, mixing(ViewKey(seed, view, image))) for _ in range(2))
    assert first == second
    assert 0 <= first < images
    assert first != position or images == 1


def test_all_others_are_partners() -> None:
    assert {partner_of(2, 5, mixing(ViewKey(0, 0, image))) for image in range(200)} == {0, 1, 3, 4}


def test_mixing_does_not_change_the_views_that_are_mixed() -> None:
    key = ViewKey(0, 1, 2)
    mixed = msgspec.structs.replace(ALL, mixup=0.2, cutmix=1.0)
    assert np.array_equal(make_view(photograph(), key, augment=ALL, spec=SPEC), make_view(photograph(), key, augment=mixed, spec=SPEC))
    only = make_view(photograph(), key, augment=Augment(mixup=0.2), spec=SPEC)
    assert np.array_equal(only, Preprocessor(SPEC)(photograph())[0])
