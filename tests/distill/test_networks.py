"""Networks by name: what is built, how it is fed, and what is said of bad names and weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.distill import networks, weights
from edgedistill.distill.networks import Network
from edgedistill.errors import ModelError
from edgedistill.recipe import HALF_MEAN, HALF_STD
from edgedistill.recipe import Network as Spec

CLASSES = ("a", "b", "c")


def build(model: str, **keys: object) -> Network:
    return networks.build(Spec(model=model, **keys), CLASSES)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "size"),
    [("timm:mobilenetv3_small_050", 32), ("torchvision:mobilenet_v3_small", 32), ("python:tiny_network:make", 16)],
)
def test_each_kind_is_built_with_one_output_a_class(model: str, size: int) -> None:
    network = build(model, input_size=size)
    network.module.eval()
    assert network.module(torch.zeros(1, 3, size, size)).shape == (1, 3)
    assert network.input_size == size
    assert (network.mean, network.std) == (HALF_MEAN, HALF_STD)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("timm:mobilenetv3_smal_050", "Did you mean 'mobilenetv3_small_050'"),
        ("torchvision:mobilenet_v3_smal", "Did you mean 'mobilenet_v3_small'"),
        ("tim:resnet18", "Did you mean 'timm'"),
        ("python:tiny_network:mak", "cannot find 'python:tiny_network:mak'"),
        ("python:no_such_module:make", "No module named"),
        ("python:", "write python:MODULE:FUNCTION"),
        ("python:tiny_network:not_a_network", "returned str, expected a torch.nn.Module"),
    ],
)
def test_unknown_networks_are_explained(model: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build(model)


@pytest.mark.parametrize("model", ["timm:mobilenetv3_small_050", "torchvision:resnet18", "python:tiny_network:make"])
def test_unknown_arguments_are_explained(model: str) -> None:
    with pytest.raises(ModelError, match=r"cannot be built with args = \{.wings.: 2\}"):
        build(model, args={"wings": 2})


def test_python_networks_have_no_pretrained_weights() -> None:
    with pytest.raises(ModelError, match="safetensors"):
        build("python:tiny_network:make", weights="pretrained")


@pytest.mark.parametrize(("strides", "expected"), [(None, 8), ([1], 16), ([2], 8)])
def test_strides_adapt_the_stem(strides: list[int] | None, expected: int) -> None:
    module = build("python:tiny_network:make", strides=strides).module
    assert isinstance(module, nn.Sequential)
    assert module[0](torch.zeros(1, 3, 16, 16)).shape[-1] == expected


def test_strides_of_a_timm_student_multiply_its_work() -> None:
    plain = networks.count(build("timm:mobilenetv3_small_050", input_size=32))
    stem = networks.count(build("timm:mobilenetv3_small_050", input_size=32, strides=[1]))
    assert stem[0] == plain[0]
    assert 2.5 < stem[1] / plain[1] < 4.5


def test_too_many_strides_are_refused() -> None:
    with pytest.raises(ModelError, match="strides has 2 entries, the network has 1"):
        build("python:tiny_network:make", strides=[1, 1])


def test_count_by_hand() -> None:
    network = build("python:tiny_network:make", input_size=16)
    # conv 3·4·9 + 4, batch norm 8, linear 64·3 + 3; MACs: 8·8·4 outputs of 27 each, 3 outputs of 64 each
    assert networks.count(network) == (108 + 4 + 8 + 192 + 3, 8 * 8 * 4 * 27 + 3 * 64)
    assert network.module.training


def test_feed_normalizes_in_rgb_and_resizes() -> None:
    network = Network(nn.Identity(), "x", 8, (0.5, 0.25, 0.0), (0.5, 0.5, 1.0))
    views = torch.zeros(2, 16, 16, 3, dtype=torch.uint8)
    views[..., 0] = 255
    fed = network.feed(views)
    assert fed.shape == (2, 3, 8, 8)
    assert fed[0, :, 4, 4].tolist() == pytest.approx([1.0, -0.5, 0.0])


def test_feed_keeps_pixels_of_the_right_size_exact() -> None:
    network = Network(nn.Identity(), "x", 8, HALF_MEAN, HALF_STD)
    views = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8))
    expected = (views.permute(0, 3, 1, 2).float() - 128) / 127.5
    assert torch.allclose(network.feed(views), expected, atol=1e-6)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "student.safetensors"
    network = build("python:tiny_network:make", input_size=16)
    weights.save(
        network.module, path, {"model": network.name, "classes": list(CLASSES), "input_size": 16, "mean": [0.1] * 3, "std": [0.2] * 3}
    )
    return path


def test_weights_bring_their_preprocessing(saved: Path) -> None:
    network = build("python:tiny_network:make", weights=str(saved))
    assert (network.input_size, network.mean, network.std) == (16, (0.1, 0.1, 0.1), (0.2, 0.2, 0.2))
    assert len(network.sha256) == 64
    assert build("python:tiny_network:make", weights=str(saved), input_size=20).input_size == 20


def test_weights_are_loaded(saved: Path) -> None:
    first, second = (build("python:tiny_network:make", weights=str(saved)).module.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_other_classes_are_shown_side_by_side(saved: Path) -> None:
    with pytest.raises(ModelError, match=r"another order:\n +weights  data\n  0  a +a\n  1  b +c  <\n  2  c +b  <"):
        networks.build(Spec(model="python:tiny_network:make", weights=str(saved)), ("a", "c", "b"))


@pytest.mark.parametrize(
    ("args", "message"),
    [({"width": 8}, r"0\.weight has shape \(4, 3, 3, 3\), expected \(8, 3, 3, 3\)")],
)
def test_weights_of_another_width_are_refused(saved: Path, args: dict[str, int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build("python:tiny_network:make", weights=str(saved), args=args)


def test_weights_of_another_network_are_refused(saved: Path) -> None:
    with pytest.raises(ModelError, match=r"made for python:tiny_network:make.*tensors are missing"):
        build("timm:mobilenetv3_small_050", weights=str(saved))


def test_missing_and_broken_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        build("python:tiny_network:make", weights=str(tmp_path / "none.safetensors"))
    for content in (b"", b"\x08\x00\x00\x00\x00\x00\x00\x00{not js}", b"x" * 100):
        (tmp_path / "broken.safetensors").write_bytes(content)
        with pytest.raises(ModelError, match="not a readable safetensors file"):
            build("python:tiny_network:make", weights=str(tmp_path / "broken.safetensors"))


def test_weights_cut_short_are_refused(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-10])
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        build("python:tiny_network:make", weights=str(saved))
