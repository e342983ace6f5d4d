"""Keras files as teachers, with the real TensorFlow in a process of its own; and what is said without it."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
from pathlib import Path

import made
import pytest

from edgedistill.distill.teachers import open_teacher
from edgedistill.errors import MissingExtraError

PROGRAM = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np, keras, tensorflow as tf, torch, made
from edgedistill.distill.teachers import open_teacher
from edgedistill.errors import EdgeDistillError
folder = sys.argv[1]
keras.utils.set_random_seed(0)

def model(activation):
    layers = [keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, strides=2), keras.layers.Flatten(), keras.layers.Dense(3, activation)]
    return keras.Sequential(layers)

HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}
def logits(model, **keys):
    return open_teacher(made.recipe_of({"model": model, **keys}), made.splits()).answer(made.views(5)).logits.numpy()

plain, softmax = model(None), model("softmax")
softmax.set_weights(plain.get_weights())
pixels = made.views(5).views.numpy()
expected = plain(pixels.astype(np.float32) / 127.5 - 1).numpy()
centred = expected - expected.mean(1, keepdims=True)
plain.save(f"{folder}/plain.keras"); softmax.save(f"{folder}/softmax.keras"); plain.export(f"{folder}/saved", verbose=False)
for name in ("plain.keras", "saved"):
    assert np.allclose(logits(f"keras:{folder}/{name}", **HALF), expected, atol=1e-4), name
found = logits(f"keras:{folder}/softmax.keras", **HALF)
assert np.allclose(found - found.mean(1, keepdims=True), centred, atol=1e-3)

converter = tf.lite.TFLiteConverter.from_keras_model(plain)
open(f"{folder}/float.tflite", "wb").write(converter.convert())
assert np.allclose(logits(f"tflite:{folder}/float.tflite", **HALF), expected, atol=1e-4)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = lambda: ([p[None].astype(np.float32) / 127.5 - 1] for p in pixels)
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.inference_input_type = converter.inference_output_type = tf.int8
open(f"{folder}/int8.tflite", "wb").write(converter.convert())
error = np.abs(logits(f"tflite:{folder}/int8.tflite", **HALF) - expected).max()
assert error < 0.1 * np.abs(expected).max(), error

open(f"{folder}/broken.keras", "wb").write(b"PK nothing")
try:
    logits(f"keras:{folder}/broken.keras", **HALF)
except EdgeDistillError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_keras_and_its_tflite_files_answer_like_keras(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    paths = f"import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", paths + textwrap.dedent(PROGRAM), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "ModelError TensorFlow" in done.stdout
    assert "cannot open keras:" in done.stdout


def test_without_tensorflow_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without(name: str, package: str | None = None) -> object:
        if name == "tensorflow":
            raise ModuleNotFoundError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    (tmp_path / "t.keras").write_bytes(b"")
    with pytest.raises(MissingExtraError, match=r"pip install 'edgedistill\[tensorflow\]'"):
        open_teacher(made.recipe_of({"model": f"keras:{tmp_path / 't.keras'}"}), made.splits())
