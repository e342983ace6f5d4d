"""Camera frame to tensor: colours, crops and sizes against values known by hand, and any frame size at all."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory import traced_peak

from edgedistill.bundle import Preprocess, Quantization, Tensor
from edgedistill.errors import DataError
from edgedistill.preprocess import INTERPOLATIONS, MINUS_128, Preprocessor, byte_view, center_crop, fill_input, input_lookup

RED_BGR, GREEN_BGR, BLUE_BGR = (0, 0, 255), (0, 255, 0), (255, 0, 0)
SIDES = st.integers(1, 40)


def card(color_bgr: tuple[int, int, int], height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), color_bgr, np.uint8)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)


def tensor(dtype: str = "int8", *, scale: float | None = 1.0, zero_point: int = -128, layout: str = "NHWC") -> Tensor:
    quantization = None if scale is None else Quantization(scale=scale, zero_point=zero_point)
    shape = [1, 3, 2, 4] if layout == "NCHW" else [1, 2, 4, 3]
    kind: Any = dtype
    order: Any = layout
    return Tensor(name="image", shape=shape, dtype=kind, layout=order, quantization=quantization)


@pytest.mark.parametrize("resize", ["stretch", "crop"])
@pytest.mark.parametrize("interpolation", sorted(INTERPOLATIONS))
@pytest.mark.parametrize(
    ("color", "frame_color", "expected"),
    [
        ("RGB", RED_BGR, (255, 0, 0)),
        ("BGR", RED_BGR, (0, 0, 255)),
        ("RGB", GREEN_BGR, (0, 255, 0)),
        ("RGB", BLUE_BGR, (0, 0, 255)),
        ("RGB", (10, 20, 30), (30, 20, 10)),
        ("BGR", (10, 20, 30), (10, 20, 30)),
    ],
)
def test_a_red_card_is_red(resize: Any, interpolation: Any, color: Any, frame_color: Any, expected: Any) -> None:
    spec = Preprocess(height=8, width=8, color=color, resize=resize, interpolation=interpolation)
    pixels = Preprocessor(spec)(card(frame_color))
    assert pixels.shape == (1, 8, 8, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == expected).all()


@pytest.mark.parametrize("interpolation", sorted(INTERPOLATIONS))
@pytest.mark.parametrize("resize", ["stretch", "crop"])
@pytest.mark.parametrize("color", ["RGB", "BGR"])
def test_a_frame_of_the_models_size_is_not_changed(interpolation: Any, resize: Any, color: Any) -> None:
    frame = noise(9, 13)
    pixels = Preprocessor(Preprocess(height=9, width=13, color=color, resize=resize, interpolation=interpolation))(frame)
    assert np.array_equal(pixels[0], frame[..., ::-1] if color == "RGB" else frame)


@given(
    SIDES,
    SIDES,
    SIDES,
    SIDES,
    st.sampled_from(["stretch", "crop"]),
    st.sampled_from(sorted(INTERPOLATIONS)),
    st.sampled_from(["RGB", "BGR"]),
)
def test_any_frame_size_to_any_model_size(
    frame_h: int, frame_w: int, height: int, width: int, resize: Any, interpolation: Any, color: Any
) -> None:
    spec = Preprocess(height=height, width=width, resize=resize, interpolation=interpolation, color=color)
    pixels = Preprocessor(spec)(card((10, 20, 30), frame_h, frame_w))
    assert pixels.shape == (1, height, width, 3)
    assert (pixels == ((30, 20, 10) if color == "RGB" else (10, 20, 30))).all()


def test_crop_drops_the_sides_that_stretch_keeps() -> None:
    """Red edges left and right of a green square: a square model sees only green when cropped."""
    frame = card(RED_BGR, 10, 30)
    frame[:, 10:20] = GREEN_BGR
    cropped = Preprocessor(Preprocess(height=10, width=10, resize="crop"))(frame)[0]
    stretched = Preprocessor(Preprocess(height=10, width=10, resize="stretch", interpolation="area"))(frame)[0]
    assert (cropped == (0, 255, 0)).all()
    assert (stretched[:, :3] == (255, 0, 0)).all()
    assert (stretched[:, -3:] == (255, 0, 0)).all()
    assert (stretched[:, 4:6] == (0, 255, 0)).all()


def test_area_averages_and_nearest_picks() -> None:
    frame = np.zeros((2, 2, 3), np.uint8)
    frame[0, 0] = 200
    area = Preprocessor(Preprocess(height=1, width=1, interpolation="area"))(frame)
    nearest = Preprocessor(Preprocess(height=1, width=1, interpolation="nearest"))(frame)
    assert area.ravel().tolist() == [50, 50, 50]
    assert nearest.ravel().tolist() == [200, 200, 200]


@pytest.mark.parametrize(
    ("color", "expected"),
    [("RGB", [(30 - 1) / 2, (20 - 2) / 4, (10 - 3) / 5]), ("BGR", [(10 - 1) / 2, (20 - 2) / 4, (30 - 3) / 5])],
)
def test_mean_and_std_are_in_the_models_colour_order(color: Any, expected: list[float]) -> None:
    spec = Preprocess(height=2, width=3, color=color, mean=(1, 2, 3), std=(2, 4, 5))
    pixels = Preprocessor(spec)(card((10, 20, 30)))
    assert pixels.dtype == np.float32
    assert pixels.shape == (1, 2, 3, 3)
    assert pixels[0, 1, 2].tolist() == pytest.approx(expected)


def test_repeated_calls_do_not_mix_frames() -> None:
    spec = Preprocess(height=4, width=4, mean=(0, 0, 0), std=(1, 1, 1))
    preprocess = Preprocessor(spec)
    first = preprocess(card((9, 9, 9))).copy()
    second = preprocess(card((5, 5, 5)))
    assert (first == 9).all()
    assert (second == 5).all()


def test_the_frame_is_not_changed_and_the_buffer_is_reused() -> None:
    frame = noise(20, 30)
    before = frame.copy()
    preprocess = Preprocessor(Preprocess(height=20, width=30))
    assert preprocess(frame) is preprocess(frame)
    assert np.array_equal(frame, before)


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(lambda f: f[:, ::-1], id="mirrored"),
        pytest.param(lambda f: f[::2, ::3], id="subsampled"),
        pytest.param(lambda f: np.asfortranarray(f), id="fortran order"),
        pytest.param(lambda f: np.rot90(f), id="rotated"),
    ],
)
def test_frames_that_are_views_of_other_arrays(view: Any) -> None:
    frame = view(noise(24, 36))
    spec = Preprocess(height=7, width=5, resize="crop")
    assert np.array_equal(Preprocessor(spec)(frame).copy(), Preprocessor(spec)(np.ascontiguousarray(frame)))


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (np.zeros((4, 4), np.uint8), r"\(4, 4\) of uint8"),
        (np.zeros((4, 4, 1), np.uint8), r"\(4, 4, 1\)"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"\(1, 4, 4, 3\)"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
        (np.zeros((4, 0, 3), np.uint8), r"\(4, 0, 3\)"),
    ],
)
def test_what_is_no_frame_is_refused_with_its_shape(frame: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=f"uint8 in BGR order, got shape .*{said}"):
        Preprocessor(Preprocess(height=4, width=4))(frame)


@pytest.mark.parametrize(
    ("frame_hw", "target_hw", "expected_hw", "corner"),
    [
        ((480, 640), (224, 224), (480, 480), (0, 80)),
        ((640, 480), (224, 224), (480, 480), (80, 0)),
        ((480, 640), (3, 4), (480, 640), (0, 0)),
        ((480, 640), (9, 16), (360, 640), (60, 0)),
        ((1, 100), (1, 1), (1, 1), (0, 49)),
        ((1, 100), (1, 1000), (1, 100), (0, 0)),
        ((100, 1), (1, 1000), (1, 1), (49, 0)),
    ],
)
def test_center_crop(frame_hw: tuple[int, int], target_hw: tuple[int, int], expected_hw: tuple[int, int], corner: tuple[int, int]) -> None:
    rows, columns = np.mgrid[: frame_hw[0], : frame_hw[1]]
    cropped = center_crop(np.stack([rows, columns], axis=2), *target_hw)
    assert cropped.shape[:2] == expected_hw
    assert tuple(cropped[0, 0]) == corner


@given(SIDES, SIDES, SIDES, SIDES)
def test_center_crop_is_a_largest_region_of_the_wanted_shape(frame_h: int, frame_w: int, height: int, width: int) -> None:
    frame = np.zeros((frame_h, frame_w, 3), np.uint8)
    cropped = center_crop(frame, height, width)
    crop_h, crop_w = cropped.shape[:2]
    assert np.shares_memory(cropped, frame)
    assert crop_h == frame_h or crop_w == frame_w
    assert abs(crop_w - crop_h * width / height) <= max(1, width / height)


def test_lookup_of_the_exact_int8_input_is_pixel_minus_128() -> None:
    table = input_lookup(tensor(scale=1.0, zero_point=-128))
    assert table is not None
    assert table.dtype == np.int8
    assert table.tolist() == [pixel - 128 for pixel in range(256)]


@pytest.mark.parametrize(
    ("spec", "some"),
    [
        (tensor(scale=2.0, zero_point=-128), {0: -128, 2: -127, 254: -1, 255: 0}),
        (tensor(scale=0.5, zero_point=-128), {0: -128, 1: -126, 127: 126, 128: 127, 255: 127}),
        (tensor("uint8", scale=1.0, zero_point=10), {0: 10, 245: 255, 255: 255}),
    ],
)
def test_lookup_rounds_and_saturates(spec: Tensor, some: dict[int, int]) -> None:
    table = input_lookup(spec)
    assert table is not None
    assert {pixel: int(table[pixel]) for pixel in some} == some


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(tensor("float32", scale=None), id="float32"),
        pytest.param(tensor("uint8", scale=None), id="uint8 without quantization"),
        pytest.param(tensor("uint8", scale=1.0, zero_point=0), id="the camera's byte"),
    ],
)
def test_no_lookup_where_pixels_are_stored_as_they_are(spec: Tensor) -> None:
    assert input_lookup(spec) is None


@given(st.floats(0.05, 50), st.integers(-128, 127))
def test_lookup_is_monotonic_and_nearest_where_it_does_not_saturate(scale: float, zero_point: int) -> None:
    table = input_lookup(tensor(scale=scale, zero_point=zero_point))
    assert table is not None
    stored = table.astype(np.int64)
    assert (np.diff(stored) >= 0).all()
    inside = (stored > -128) & (stored < 127)
    error = np.abs(scale * (stored - zero_point) - np.arange(256))
    assert (error[inside] <= scale / 2 + 1e-6).all()


PIXELS = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize(("dtype", "offset"), [("int8", -128), ("uint8", 0), ("float32", 0)])
def test_fill_input_of_each_layout_and_dtype(layout: str, dtype: str, offset: int) -> None:
    spec = tensor(dtype, scale=1.0 if dtype == "int8" else None, layout=layout)
    into = np.full(spec.shape, 99, dtype)
    fill_input(PIXELS, into, lookup=input_lookup(spec), layout=layout)
    expected = PIXELS.astype(np.int64) + offset
    assert into.tolist() == (expected.transpose(0, 3, 1, 2) if layout == "NCHW" else expected).tolist()


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize(("scale", "zero_point"), [(1.0, -128), (2.0, -128), (1.0, -100), (0.7, 3)])
def test_every_pixel_of_a_quantized_input_is_stored_as_its_lookup_says(layout: str, scale: float, zero_point: int) -> None:
    pixels = np.resize(np.arange(256, dtype=np.uint8), (1, 16, 16, 3))
    into = np.full((1, 16, 16, 3) if layout == "NHWC" else (1, 3, 16, 16), 99, np.int8)
    table = input_lookup(tensor(scale=scale, zero_point=zero_point))
    fill_input(pixels, into, lookup=table, layout=layout)
    stored = into if layout == "NHWC" else into.transpose(0, 2, 3, 1)
    assert table is not None
    assert np.array_equal(stored, table[pixels])


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("pixel_mean", [0, 1, 124, 255])
def test_a_float_input_is_the_pixel_less_the_mean(layout: str, pixel_mean: int) -> None:
    into = np.full(tensor("float32", scale=None, layout=layout).shape, 99, np.float32)
    fill_input(PIXELS, into, lookup=None, layout=layout, pixel_mean=pixel_mean)
    expected = PIXELS.astype(np.int64) - pixel_mean
    assert into.tolist() == (expected.transpose(0, 3, 1, 2) if layout == "NCHW" else expected).tolist()


@pytest.mark.parametrize("pixel_mean", [0, 1, 124, 255])
def test_bytes_with_the_mean_as_zero_point_are_taken_as_they_are(pixel_mean: int) -> None:
    spec = tensor("uint8", scale=1.0, zero_point=pixel_mean)
    assert input_lookup(spec, pixel_mean=pixel_mean) is None
    into = np.full(spec.shape, 99, np.uint8)
    fill_input(PIXELS, into, lookup=None, layout="NHWC", pixel_mean=pixel_mean)
    assert into.tolist() == PIXELS.tolist()


@given(st.integers(0, 255), st.sampled_from([0.5, 1.0, 2.0]), st.integers(0, 255))
def test_a_stored_byte_stands_for_the_pixel_less_the_mean(pixel_mean: int, scale: float, zero_point: int) -> None:
    found = input_lookup(tensor("uint8", scale=scale, zero_point=zero_point), pixel_mean=pixel_mean)
    table = np.arange(256) if found is None else found.astype(np.int64)
    inside = (table > 0) & (table < 255)
    error = scale * (table - zero_point) - (np.arange(256) - pixel_mean)
    assert (np.abs(error[inside]) <= scale / 2).all()


def test_an_int8_input_of_a_mean_of_128_is_the_byte_less_128() -> None:
    assert input_lookup(tensor("int8", scale=1.0, zero_point=0), pixel_mean=128) is MINUS_128


def test_nchw_holds_one_plane_a_channel() -> None:
    pixels = Preprocessor(Preprocess(height=2, width=4))(card(RED_BGR))
    into = np.zeros((1, 3, 2, 4), np.float32)
    fill_input(pixels, into, lookup=None, layout="NCHW")
    assert (into[0, 0] == 255).all()
    assert (into[0, 1:] == 0).all()


def test_normalized_pixels_are_written_as_they_are() -> None:
    pixels = Preprocessor(Preprocess(height=2, width=4, mean=(0.5, 0.5, 0.5), std=(2, 2, 2)))(card((1, 1, 1)))
    into = np.zeros((1, 2, 4, 3), np.float32)
    fill_input(pixels, into, lookup=None, layout="NHWC")
    assert (into == 0.25).all()


@pytest.mark.parametrize(("layout", "shape"), [("NHWC", (1, 4, 2, 3)), ("NCHW", (1, 2, 4, 3)), ("NHWC", (2, 2, 4, 3))])
def test_pixels_of_another_shape_are_refused(layout: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"got \(1, 2, 4, 3\); use the bundle's own Preprocessor"):
        fill_input(PIXELS, np.zeros(shape, np.float32), lookup=None, layout=layout)


def test_the_whole_way_equals_a_naive_implementation() -> None:
    frame = noise(48, 64)
    resized = cv2.resize(frame[:, 8:56], (8, 8), interpolation=cv2.INTER_AREA)
    expected = cv2.cvtColor(resized, cv2.COLOR_BGR2RGB).astype(np.int16) - 128
    into = np.zeros((1, 8, 8, 3), np.int8)
    pixels = Preprocessor(Preprocess(height=8, width=8, resize="crop", interpolation="area"))(frame)
    fill_input(pixels, into, lookup=input_lookup(tensor(scale=1.0, zero_point=-128)), layout="NHWC")
    assert np.array_equal(into[0], expected)


@pytest.mark.parametrize("color", ["RGB", "BGR"])
@pytest.mark.parametrize("resize", ["stretch", "crop"])
@pytest.mark.parametrize("mean", [None, (1.5, 2.0, 3.0)])
def test_pixels_written_into_given_memory_are_the_same(color: Any, resize: Any, mean: Any) -> None:
    spec = Preprocess(height=9, width=7, color=color, resize=resize, mean=mean, std=None if mean is None else (2.0, 3.0, 4.0))
    memory = np.full((1, 9, 7, 3), 99, np.uint8)
    frame = noise(31, 40)
    found = Preprocessor(spec)(frame, memory)
    assert np.array_equal(found, Preprocessor(spec)(frame))
    assert (found is memory) == (mean is None)


@pytest.mark.parametrize(
    "memory",
    [
        pytest.param(np.zeros((1, 4, 5, 3), np.uint8), id="another shape"),
        pytest.param(np.zeros((5, 5, 3), np.uint8), id="no batch"),
        pytest.param(np.zeros((1, 5, 5, 3), np.int8), id="signed"),
        pytest.param(np.zeros((1, 5, 5, 3), np.float32), id="floats"),
        pytest.param(np.zeros((1, 5, 5, 6), np.uint8)[..., ::2], id="with gaps"),
    ],
)
def test_memory_that_cannot_take_the_pixels_is_refused(memory: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"pixels of shape \(1, 5, 5, 3\) cannot be written into"):
        Preprocessor(Preprocess(height=5, width=5))(noise(9, 9), memory)


@pytest.mark.parametrize(
    ("spec", "pixel_mean"),
    [
        (tensor("int8", scale=1.0, zero_point=-128), 0),
        (tensor("int8", scale=1.0, zero_point=0), 128),
        (tensor("int8", scale=0.7, zero_point=3), 100),
        (tensor("uint8", scale=1.0, zero_point=114), 114),
        (tensor("uint8", scale=2.0, zero_point=9), 0),
        (tensor("uint8", scale=None), 0),
    ],
)
def test_bytes_that_lie_in_the_tensor_are_converted_in_place(spec: Tensor, pixel_mean: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (1, 2, 4, 3), np.uint8)
    lookup = input_lookup(spec, pixel_mean=pixel_mean)
    copied, own = np.zeros(spec.shape, spec.dtype), np.zeros(spec.shape, spec.dtype)
    fill_input(pixels, copied, lookup=lookup, layout="NHWC", pixel_mean=pixel_mean)
    view = byte_view(own, layout="NHWC")
    assert view is not None
    view[:] = pixels
    fill_input(view, own, lookup=lookup, layout="NHWC", pixel_mean=pixel_mean)
    assert own.tolist() == copied.tolist() == (pixels if lookup is None else lookup[pixels]).tolist()


@pytest.mark.parametrize(("dtype", "layout"), [("float32", "NHWC"), ("float32", "NCHW"), ("uint8", "NCHW"), ("int8", "NCHW")])
def test_a_tensor_that_is_no_image_of_bytes_has_no_view(dtype: str, layout: str) -> None:
    assert byte_view(np.zeros((1, 3, 2, 4), dtype), layout=layout) is None


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "mean"),
    [
        ("float32", None, 0, None),
        ("float32", None, 0, (1.0, 2.0, 3.0)),
        ("int8", 1.0, -128, None),
        ("int8", 0.7, 3, None),
        ("uint8", None, 0, None),
    ],
)
def test_a_frame_takes_no_new_memory(layout: str, dtype: str, scale: float | None, zero_point: int, mean: Any) -> None:
    spec = Preprocess(height=64, width=48, mean=mean, std=None if mean is None else (1.0, 1.0, 1.0))
    entry = tensor(dtype, scale=scale, zero_point=zero_point, layout=layout)
    into = np.zeros((1, 64, 48, 3) if layout == "NHWC" else (1, 3, 64, 48), dtype)
    lookup, preprocess, frame = input_lookup(entry), Preprocessor(spec), noise(96, 96)

    def once() -> None:
        pixels = preprocess(frame, byte_view(into, layout=layout))
        fill_input(pixels, into, lookup=lookup, layout=layout, pixel_mean=0 if mean else 100)

    assert traced_peak(once) < 2048
