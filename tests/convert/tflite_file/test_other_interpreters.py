"""Finished files in interpreters that were not chosen by us: TensorFlow's, the old tflite-runtime, MediaPipe's image classifier."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import finished
import msgspec
import numpy as np
import pytest
from environments import answers, environment, told

from edgedistill import bundle, recipe
from edgedistill.convert.facts import FileFacts
from edgedistill.convert.pixels import model_pixels
from edgedistill.convert.quiet import quietly
from edgedistill.convert.tflite_file import describe_tflite, finish
from edgedistill.distill.data import open_splits
from edgedistill.postprocess import softmax

ROOT = Path(__file__).parents[3]
IMAGES = 50
KINDS = ("fp32", "int8")

pytestmark = pytest.mark.slow
OLD_PYTHON = pytest.mark.skipif(sys.version_info >= (3, 12), reason="tflite-runtime was never built for Python 3.12 and later")


class File(NamedTuple):
    """A finished file, its facts, real images as pixels, and our runtime's logits for them."""

    path: Path
    facts: FileFacts
    pixels_nhwc: np.ndarray
    logits_nc: np.ndarray

    @property
    def inputs(self) -> np.ndarray:
        """The images as the file takes them."""
        quantized = describe_tflite(self.path).input.dtype == "uint8"
        return self.pixels_nhwc if quantized else self.pixels_nhwc.astype(np.float32) - self.facts.pixel_mean


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Return real images of the embedded data."""
    test = open_splits(recipe.load(ROOT / "edgedistill/demo/student.toml").data).test.balanced(IMAGES)
    return model_pixels(list(test), bundle.load(finished.SHIPPED).manifest.input)


@pytest.fixture(scope="module")
def make(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], File]:
    """Return a function from precision and kind of scores to a finished file."""
    folder = tmp_path_factory.mktemp("finished")

    def made(kind: str, scores: str) -> File:
        path, facts = finished.shipped(kind, folder / f"{kind}-{scores}.tflite", scores=scores)
        return File(path, facts, pixels, finished.run(path, facts, pixels))

    return made


@pytest.fixture(scope="module")
def mediapipe(request: pytest.FixtureRequest) -> Path:
    return environment(request.config.cache, "mediapipe==1.2.3")


@pytest.fixture(scope="module")
def tflite_runtime(request: pytest.FixtureRequest) -> Path:
    """Return the Python of an environment with the last tflite-runtime and what our runtime needs beside it."""
    packages = ("tflite-runtime==2.14.0", "numpy<2", "msgspec<1", "opencv-python-headless<4.12")
    return environment(request.config.cache, *packages)


def test_mediapipe_names_the_same_class(make: Callable[[str, str], File], mediapipe: Path) -> None:
    files = [make(kind, "probabilities") for kind in KINDS]
    for file, found in zip(files, answers(mediapipe, "mediapipe", *((file.path, file.pixels_nhwc) for file in files)), strict=True):
        assert found["labels"] == [file.facts.labels[i] for i in file.logits_nc.argmax(axis=1)]
        np.testing.assert_allclose(found["scores"], softmax(file.logits_nc).max(axis=1), atol=0.02)


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed; make slow installs it")
def test_tensorflows_interpreter_answers_like_ours(make: Callable[[str, str], File]) -> None:
    assert_answers_alike(sys.executable, "tensorflow", make)


@OLD_PYTHON
def test_the_old_runtime_answers_like_ours(make: Callable[[str, str], File], tflite_runtime: Path) -> None:
    for kind in KINDS:
        assert _numbers(describe_tflite(make(kind, "logits").path).minimum_runtime) <= [2, 14]
    assert_answers_alike(tflite_runtime, "tflite_runtime", make)


def _numbers(runtime: str) -> list[int]:
    return [int(part) for part in runtime.removeprefix("tflite>=").split(".")]


def assert_answers_alike(python: Path | str, interpreter: str, make: Callable[[str, str], File]) -> None:
    """Kernels of other versions may round an 8-bit value to its neighbour; float ones differ by a few last digits."""
    files = [make(kind, "logits") for kind in KINDS]
    for kind, file, answer in zip(KINDS, files, answers(python, interpreter, *((file.path, file.inputs) for file in files)), strict=True):
        found, expected = np.array(answer["scores"]), file.logits_nc
        assert np.abs(found - expected).max() <= (1e-3 if kind == "fp32" else 0.03 * np.ptp(expected))
        assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() >= (1 if kind == "fp32" else 0.98)


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with 8-bit weights that computes in 8 bits with ranges taken at run time, as the quantizer leaves it."""
    with quietly():
        from ai_edge_quantizer import quantizer
        from ai_edge_quantizer import recipe as recipes

        source = finished.SHIPPED / "fashion-mnist-mobilenetv3-fp32.tflite"
        made = quantizer.Quantizer(str(source), recipes.dynamic_wi8_afp32()).quantize(
            enable_progress_bar=False, enable_progress_report=False
        )
    path = tmp_path_factory.mktemp("dynamic") / "dynamic.tflite"
    path.write_bytes(bytes(made.quantized_model))
    return path


@OLD_PYTHON
def test_a_file_that_the_old_runtime_computes_wrongly_is_refused_by_it_once_it_is_finished(
    make: Callable[[str, str], File], tflite_runtime: Path, dynamic: Path, tmp_path: Path
) -> None:
    file = make("fp32", "logits")
    before = np.array(answers(tflite_runtime, "tflite_runtime", (dynamic, file.inputs))[0]["scores"])
    assert (before.argmax(axis=1) == file.logits_nc.argmax(axis=1)).mean() < 0.5, "it answers nonsense, and does not say so"
    path = tmp_path / "x.tflite"
    path.write_bytes(dynamic.read_bytes())
    finish(path, file.facts)
    assert describe_tflite(path).minimum_runtime == "tflite>=2.17"
    assert "version '12'" in answers(tflite_runtime, "tflite_runtime", (path, file.inputs))[0]["refusal"]
    np.testing.assert_allclose(finished.run(path, file.facts, file.pixels_nhwc).argmax(1), file.logits_nc.argmax(1))


RUNTIME_CHILD = """
import json, sys, logging
from edgedistill.errors import EngineError
from edgedistill.runtime import open_engine
from edgedistill.runtime.selfcheck import selfcheck
logging.basicConfig(level=logging.WARNING)
try:
    message = open_engine(sys.argv[1], "tflite-int8").model.file
except EngineError as error:
    message = str(error)
chosen = open_engine(sys.argv[1])
checks = [check._asdict() for check in selfcheck(sys.argv[1])]
print(json.dumps({"message": message, "chosen": chosen.model.file, "engine": chosen.name, "checks": checks}))
"""


@OLD_PYTHON
def test_our_runtime_on_the_old_interpreter_refuses_it_too_and_takes_another_file(
    make: Callable[[str, str], File], tflite_runtime: Path, dynamic: Path, tmp_path: Path
) -> None:
    good = make("fp32", "logits")
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "good.tflite").write_bytes(good.path.read_bytes())
    (folder / "dynamic.tflite").write_bytes(dynamic.read_bytes())
    finish(folder / "dynamic.tflite", good.facts)
    shipped = bundle.load(finished.SHIPPED).manifest
    shipped = msgspec.structs.replace(shipped, provenance=msgspec.structs.replace(shipped.provenance, calibrations=[]))
    files = [
        finished.entry(folder / "dynamic.tflite", good.facts, precision="int8"),
        finished.entry(folder / "good.tflite", good.facts),
    ]
    bundle.write_manifest(folder, msgspec.structs.replace(shipped, files=files, golden=None))
    from edgedistill.convert.golden import write_golden

    frames = list(np.ascontiguousarray(good.pixels_nhwc[..., ::-1]))
    golden = write_golden(bundle.load(folder), frames)
    bundle.write_manifest(folder, msgspec.structs.replace(shipped, files=files, golden=golden))
    found = told([str(tflite_runtime), "-c", RUNTIME_CHILD, str(folder)], PYTHONPATH=str(ROOT))
    assert "dynamic.tflite needs tflite>=2.17, installed is tflite-runtime 2.14.0" in found["message"]
    assert "use LiteRT in its place" in found["message"]
    assert (found["chosen"], found["engine"]) == ("good.tflite", "tflite-runtime")
    assert [check["state"] for check in found["checks"]] == ["skipped", "ok"], json.dumps(found["checks"])
