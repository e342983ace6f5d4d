"""ONNX and TFLite files as teachers: the same answers as the network in torch, and files that cannot teach."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import made
import numpy as np
import onnx
import pytest
import torch

from edgedistill import recipe
from edgedistill.distill import networks
from edgedistill.distill.data import Splits
from edgedistill.distill.teachers import Teacher, open_teacher
from edgedistill.distill.teachers.file_teacher import Runner, look_like_probabilities, run_in_batches
from edgedistill.errors import EdgeDistillError, ModelError, RecipeError
from edgedistill.recipe import HALF_MEAN, HALF_STD

ROOT = Path(__file__).parents[3]
BUNDLE = ROOT / "export" / "fashion-mnist-mobilenetv3"
STUDENT = ROOT / "models" / "fashion-mnist-mobilenetv3" / "student.safetensors"
HALF = {"mean": list(HALF_MEAN), "std": list(HALF_STD)}


def opened(model: str, *, splits: Splits | None = None, **keys: Any) -> Teacher:
    teacher = open_teacher(made.recipe_of({"model": model, **keys}), splits or made.splits())
    assert teacher is not None
    return teacher


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("batch", ["N", 1, 3])
def test_an_onnx_file_answers_like_its_network(tmp_path: Path, layout: str, dtype: str, batch: int | str) -> None:
    network, views = made.network(), made.views(5)
    file = made.write_onnx(network, tmp_path / "t.onnx", layout=layout, dtype=dtype, batch=batch)
    teacher = opened(f"onnx:{file}", **(HALF if dtype == "float32" else {}))
    assert torch.allclose(teacher.answer(views).logits, made.answers_of(network, views), atol=1e-4)
    assert teacher.facts["input_size"] == 16
    assert (teacher.facts["model"], teacher.facts["parameters"], teacher.facts["macs"]) == ("onnx:t.onnx", None, None)


def test_probabilities_are_made_logits(tmp_path: Path) -> None:
    network, views = made.network(), made.views(5)
    file = made.write_onnx(network, tmp_path / "t.onnx", dtype="uint8", softmax=True)
    answer = opened(f"onnx:{file}").answer(views).logits
    assert torch.allclose(answer, made.answers_of(network, views).log_softmax(1), atol=1e-4)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([[0.2, 0.8], [1.0, 0.0]], True),
        ([[0.2, 0.8], [1.0, 0.5]], False),
        ([[1.2, -0.2], [1.0, 0.0]], False),
        ([[52 / 256, 203 / 256]], True),
        ([[0.0, 0.0]], False),
    ],
)
def test_what_looks_like_probabilities(outputs: list[list[float]], expected: bool) -> None:
    assert look_like_probabilities(np.array(outputs, np.float32)) is expected


@pytest.mark.parametrize(("count", "calls"), [(1, 1), (4, 1), (5, 2), (8, 2)])
def test_files_of_a_fixed_batch_are_run_as_often_as_it_takes(count: int, calls: int) -> None:
    seen = []

    def run(array: np.ndarray) -> np.ndarray:
        seen.append(len(array))
        return array * 2

    inputs = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
    assert np.array_equal(run_in_batches(Runner("onnx", run, 4), inputs), inputs * 2)
    assert seen == [4] * calls


def test_a_file_s_outputs_are_mapped_like_those_of_a_network(tmp_path: Path) -> None:
    network, views = made.network(classes=("a", "b", "c", "d")), made.views(5)
    file = made.write_onnx(network, tmp_path / "t.onnx", dtype="uint8")
    mapping = {"a": "red", "b": "green", "c": "blue", "d": "blue"}
    answer = opened(f"onnx:{file}", classes=["a", "b", "c", "d"], mapping=mapping).answer(views).logits
    raw = made.answers_of(network, views)
    assert torch.allclose(answer, torch.stack([raw[:, 2:].logsumexp(1), raw[:, 1], raw[:, 0]], 1), atol=1e-4)
    with pytest.raises(ModelError, match="has 4 outputs, the data has 3"):
        opened(f"onnx:{file}")
    with pytest.raises(ModelError, match=r"has 4 outputs, teacher\.classes has 3"):
        opened(f"onnx:{file}", classes=["a", "b", "c"])


def test_the_identity_follows_content_and_normalization(tmp_path: Path) -> None:
    first = made.write_onnx(made.network(), tmp_path / "t.onnx")
    before = opened(f"onnx:{first}", **HALF).identity
    assert opened(f"onnx:{first}", **HALF).identity == before
    assert opened(f"onnx:{first}", mean=[0.5] * 3, std=[0.5] * 3).identity != before
    made.write_onnx(made.network(seed=1), first)
    assert opened(f"onnx:{first}", **HALF).identity != before


def test_a_file_has_no_layers(tmp_path: Path) -> None:
    file = made.write_onnx(made.network(), tmp_path / "t.onnx", dtype="uint8")
    with pytest.raises(RecipeError, match=r"onnx:t\.onnx has only logits, no layers 2"):
        opened(f"onnx:{file}").answer(made.views(1), ["2"])


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08\x12\x00" * 40])
def test_broken_files_are_refused(tmp_path: Path, kind: str, content: bytes) -> None:
    (tmp_path / "broken").write_bytes(content)
    with pytest.raises(ModelError, match=r"refuses .*broken"):
        opened(f"{kind}:{tmp_path / 'broken'}", **HALF)


def test_a_file_with_two_outputs_is_refused(tmp_path: Path) -> None:
    file = made.write_onnx(made.network(), tmp_path / "t.onnx")
    model = onnx.load(str(file))
    model.graph.output.append(onnx.helper.make_tensor_value_info("Relu_2", onnx.TensorProto.FLOAT, None))
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="1 inputs and 2 outputs; a classifier has one of each"):
        opened(f"onnx:{file}", **HALF)


# ---- the shipped bundle's files against the shipped student in torch ----


def fashion() -> Splits:
    """Return the made-up images under the names of the shipped student's classes."""
    from dataclasses import replace

    names = tuple(json.loads((BUNDLE / "manifest.json").read_text())["labels"])
    parts = made.splits()
    return parts._replace(**{name: replace(getattr(parts, name), classes=names) for name in ("train", "validation", "test")})


def student_in_torch() -> networks.Network:
    spec = recipe.Network(model="timm:mobilenetv3_small_050", strides=[1], weights=str(STUDENT))
    network = networks.build(spec, fashion().classes)
    network.module.eval()
    return network


@pytest.mark.parametrize("name", ["fp32.onnx", "fp32.tflite", "int8.onnx", "int8.tflite"])
def test_a_bundle_s_files_answer_like_its_student_without_a_key(name: str) -> None:
    views = made.views(6, side=28)
    teacher = opened(f"{name.partition('.')[2]}:{BUNDLE / f'fashion-mnist-mobilenetv3-{name}'}", splits=fashion())
    expected, found = made.answers_of(student_in_torch(), views), teacher.answer(views).logits
    assert teacher.facts["input_size"] == 28
    assert (found - expected).abs().max() < (1e-3 if "fp32" in name else 0.35 * expected.abs().max())
    assert torch.allclose(teacher.answer(made.views(1, side=28)).logits, found[:1], atol=1e-4)


def test_a_bundle_s_class_names_are_compared() -> None:
    with pytest.raises(ModelError, match=r"(?s)10 classes, the data has 3:.*T-shirt/top +blue +<"):
        opened(f"onnx:{BUNDLE / 'fashion-mnist-mobilenetv3-fp32.onnx'}")


def test_a_bundle_s_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    for name in ("manifest.json", "fashion-mnist-mobilenetv3-fp32.onnx"):
        shutil.copy(BUNDLE / name, tmp_path)
    file = made.write_onnx(made.network(), tmp_path / "fashion-mnist-mobilenetv3-fp32.onnx")
    with pytest.raises(ModelError, match="is not the file that its bundle's manifest describes"):
        opened(f"onnx:{file}", **HALF)


def test_a_manifest_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": 99}')
    file = made.write_onnx(made.network(), tmp_path / "t.onnx", dtype="uint8")
    assert opened(f"onnx:{file}").facts["input_size"] == 16


def test_a_tflite_file_of_no_bundle_needs_its_normalization(tmp_path: Path) -> None:
    file = tmp_path / "copied.tflite"
    shutil.copy(BUNDLE / "fashion-mnist-mobilenetv3-fp32.tflite", file)
    with pytest.raises(EdgeDistillError, match="nothing says how its pixels are normalized"):
        opened(f"tflite:{file}", splits=fashion())
    views = made.views(3, side=28)
    answer = opened(f"tflite:{file}", splits=fashion(), mean=[128 / 255] * 3, std=[1 / 255] * 3).answer(views).logits
    assert torch.allclose(answer, made.answers_of(student_in_torch(), views), atol=1e-3)
