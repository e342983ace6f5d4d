"""A real bundle of a few kilobytes: a red/green/blue classifier as ONNX fp32, TFLite fp32 and TFLite int8, with a golden pair.

The TFLite files are committed (data/make_tiny_tflite.py makes them); the ONNX file is built here with the same weights.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np

from edgedistill import bundle
from edgedistill.bundle import Bundle, Golden, Manifest, ModelFile, Preprocess, Provenance, Quantization, Tensor
from edgedistill.runtime import predict_logits

DATA = Path(__file__).parent / "data"
HEIGHT, WIDTH = 12, 16
LABELS = ["red", "green", "blue"]
COLOURS_BGR = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0)}
FILES = ["tiny-int8.tflite", "tiny-fp32.tflite", "tiny-fp32.onnx"]
OUTPUT_STEP = 0.03153230994939804


def make(folder: Path) -> Path:
    """Write the bundle into `folder` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES[:2]:
        shutil.copy(DATA / name, folder / name)
    (folder / FILES[2]).write_bytes(onnx_model())
    bundle.write_manifest(folder, manifest(folder))
    add_golden(folder)
    return folder


def card(label: str, *, height: int = 48, width: int = 64) -> np.ndarray:
    """Return a (height, width, 3) BGR frame of one colour."""
    return np.full((height, width, 3), COLOURS_BGR[label], np.uint8)


def manifest(folder: Path) -> Manifest:
    """Return a manifest of the files in the folder, without a golden pair."""
    return Manifest(
        format=bundle.FORMAT,
        name="tiny",
        task="classification",
        labels=LABELS,
        input=Preprocess(height=HEIGHT, width=WIDTH, resize="crop", interpolation="area"),
        files=[entry(folder / name) for name in FILES],
        provenance=Provenance(
            student="tiny",
            student_sha256="0" * 64,
            teacher=None,
            dataset="none",
            dataset_sha256="0" * 64,
            dataset_licence="CC0-1.0",
            recipe_sha256="0" * 64,
            created="2024-01-01",
            versions={},
        ),
    )


def entry(path: Path) -> ModelFile:
    """Return the manifest's entry of one of the three files."""
    stem, _, kind = path.name.partition(".")
    precision = stem.removeprefix("tiny-")
    dtype = {"tiny-int8.tflite": "int8", "tiny-fp32.tflite": "float32", "tiny-fp32.onnx": "uint8"}[path.name]
    int8 = precision == "int8"
    return ModelFile(
        file=path.name,
        format=kind,
        precision=precision,
        bytes=path.stat().st_size,
        sha256=bundle.sha256_of(path),
        input=Tensor(
            name="pixels",
            shape=[1, HEIGHT, WIDTH, 3],
            dtype=dtype,
            layout="NHWC",
            quantization=Quantization(scale=1.0, zero_point=-128) if int8 else None,
        ),
        output=Tensor(
            name="logits",
            shape=[1, 3],
            dtype="int8" if int8 else "float32",
            layout="NC",
            quantization=Quantization(scale=OUTPUT_STEP, zero_point=-61) if int8 else None,
        ),
        minimum_runtime="1.5.0",
    )


def add_golden(folder: Path) -> None:
    """Write golden.npz (three colour cards, one of noise, and each file's logits) and name it in the manifest."""
    loaded = bundle.load(folder)
    noise = np.random.default_rng(7).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    frames = np.stack([*(card(label) for label in LABELS), noise])
    save_golden(loaded, frames, {name: predict_logits(loaded, frames, file=name) for name in FILES})


def save_golden(loaded: Bundle, frames_bgr: np.ndarray, logits: dict[str, np.ndarray]) -> None:
    """Write a golden pair into a bundle, whatever it says."""
    path = loaded.path / "golden.npz"
    np.savez_compressed(path, frames_bgr=frames_bgr, **{f"logits/{name}": values for name, values in logits.items()})
    golden = Golden(file=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with_golden = {**{field: getattr(loaded.manifest, field) for field in Manifest.__struct_fields__}, "golden": golden}
    bundle.write_manifest(loaded.path, Manifest(**with_golden))


def onnx_model() -> bytes:
    """Return the ONNX file: uint8 NHWC pixels, the normalization inside, then convolution, mean and a linear layer."""
    from onnx import TensorProto, helper, numpy_helper

    mix = 1.5 * np.eye(3) - 0.5
    constants = {
        "mean": np.float32(128),
        "std": np.float32(127.5),
        "conv_w": np.broadcast_to((mix / 9)[:, :, None, None], (3, 3, 3, 3)).astype(np.float32),
        "conv_b": np.full(3, 0.1, np.float32),
        "head_w": (4 * np.eye(3) - 1).astype(np.float32),
        "head_b": np.array([0.2, 0.0, -0.2], np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["floats", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "conv_w", "conv_b"], ["conv"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("ReduceMean", ["relu"], ["features"], axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["features", "head_w", "head_b"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, [1, HEIGHT, WIDTH, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
