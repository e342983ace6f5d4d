"""The wrapper that normalizes inside the graph, and what a student is refused for."""

from __future__ import annotations

import blobs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgedistill.bundle import Preprocess
from edgedistill.convert.graph import RawPixels, example, logits_of, pixels_are_exact, prepare, quantized_pixels
from edgedistill.errors import ConvertError
from edgedistill.recipe import HALF_MEAN, HALF_STD

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALF = {"mean": HALF_MEAN, "std": HALF_STD}


class Pixel(nn.Module):
    """Returns the normalized values of the top left pixel, so that a test sees what a network is given."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, 0, 0]


class Pair(nn.Module):
    """Returns two tensors, which no file can."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("normalization", "rgb", "expected"),
    [
        (HALF, (0, 128, 255), (-128 / 127.5, 0, 127 / 127.5)),
        (IMAGENET, (0, 0, 0), (-2.1179, -2.0357, -1.8044)),
        (IMAGENET, (255, 255, 255), (2.2489, 2.4286, 2.6400)),
        ({"mean": (0, 0, 0), "std": (1, 1, 1)}, (51, 102, 204), (0.2, 0.4, 0.8)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_raw_pixels_are_normalized_by_channel(normalization: dict, rgb: tuple, expected: tuple, dtype: torch.dtype) -> None:
    pixels = torch.tensor(rgb, dtype=dtype).expand(2, 4, 5, 3)
    assert RawPixels(Pixel(), **normalization)(pixels).numpy() == pytest.approx(np.array([expected] * 2), abs=1e-4)


def test_the_student_stays_as_it_is() -> None:
    student = blobs.Student().train()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    graph = prepare(student, blobs.SPEC, **HALF, classes=6)
    with torch.no_grad():
        next(graph.network.parameters()).zero_()
    assert student.training
    assert not graph.training
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())


def test_channels_last_weights_become_contiguous() -> None:
    student = blobs.Student().to(memory_format=torch.channels_last)
    graph = prepare(student, blobs.SPEC, **HALF, classes=6)
    assert all(parameter.is_contiguous() for parameter in graph.parameters())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["head.weight", "stem.1.running_var"])
def test_weights_that_are_not_finite_are_named(value: float, name: str) -> None:
    student = blobs.Student()
    student.state_dict()[name].view(-1)[-1] = value
    with pytest.raises(ConvertError, match=name):
        prepare(student, blobs.SPEC, **HALF, classes=6)


@pytest.mark.parametrize(
    ("network", "spec", "message"),
    [
        (blobs.Student(7), blobs.SPEC, r"returns \(1, 7\).*expected \(1, 6\)"),
        (nn.Conv2d(3, 6, 3), blobs.SPEC, r"returns \(1, 6, 14, 14\)"),
        (Pair(), blobs.SPEC, "returns tuple"),
        (nn.Linear(5, 6), blobs.SPEC, "fails on an image of 16x16"),
        (blobs.Student(), Preprocess(height=16, width=16, color="BGR"), "color = 'BGR'"),
        (blobs.Student(), Preprocess(height=16, width=16, mean=(128, 128, 128), std=(127, 127, 127)), "leave mean and std out"),
    ],
)
def test_a_network_that_cannot_be_exported_is_refused(network: nn.Module, spec: Preprocess, message: str) -> None:
    with pytest.raises(ConvertError, match=message):
        prepare(network, spec, **HALF, classes=6)


@pytest.mark.parametrize(("normalization", "exact"), [(HALF, True), (IMAGENET, False), ({"mean": (0.5,) * 3, "std": (0.5,) * 3}, False)])
def test_exact_pixels_are_recognised(normalization: dict, exact: bool) -> None:
    assert pixels_are_exact(RawPixels(Pixel(), **normalization)) is exact


def test_half_normalization_stores_the_bytes_themselves() -> None:
    scale, zero_point = quantized_pixels(RawPixels(Pixel(), **HALF))
    normalized = (np.arange(256) - 128) / 127.5
    assert np.array_equal(np.rint(normalized / scale) + zero_point, np.arange(256))


unit = st.floats(0.01, 0.99)


@given(mean=st.tuples(unit, unit, unit), std=st.tuples(unit, unit, unit))
def test_every_normalized_pixel_fits_into_its_8_bits(mean: tuple, std: tuple) -> None:
    scale, zero_point = quantized_pixels(RawPixels(Pixel(), mean=mean, std=std))
    normalized = (np.arange(256)[:, None] / 255 - np.array(mean)) / np.array(std)
    stored = normalized / scale + zero_point
    assert 0 <= zero_point <= 255
    assert stored.min() > -0.51
    assert stored.max() < 255.51


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_logits_do_not_depend_on_the_batch_size(student: nn.Module, batch_size: int) -> None:
    graph = prepare(student, blobs.SPEC, **HALF, classes=6)
    pixels = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)
    found = logits_of(graph, pixels, batch_size=batch_size)
    assert found.shape == (7, 6)
    assert found.dtype == np.float32
    assert found == pytest.approx(logits_of(graph, pixels[:], batch_size=7), abs=1e-5)


def test_the_example_is_one_grey_image() -> None:
    image = example(Preprocess(height=2, width=3), torch.uint8)
    assert image.shape == (1, 2, 3, 3)
    assert image.dtype == torch.uint8
    assert image.unique().tolist() == [128]
