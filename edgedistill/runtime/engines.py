"""One small interface over the interpreters: which of them runs a bundle's file here, and opening it.

The interpreters themselves are driven in `tflite` and `ort`. Nothing is imported from an interpreter before a file is
opened, so that a device needs only one of them, and starts fast.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from edgedistill import bundle as bundles
from edgedistill.bundle import Bundle, ModelFile
from edgedistill.errors import BundleError, EngineError, MissingExtraError, close_matches
from edgedistill.preprocess import Preprocessor
from edgedistill.runtime import ort, tflite

BundleOrPath = Bundle | str | os.PathLike[str]

#: Which file runs when none is named: TFLite before ONNX, because LiteRT is the smaller and, on ARM, the faster
#: interpreter; int8 before fp32 there, because boards with dot-product instructions gain most from it. ONNX int8 comes last:
#: without such instructions onnxruntime runs fp32 faster. fp16 is fp32 with rounded weights: as fast, and a little less exact.
#: `profile` measures what is best on a given machine.
PREFERENCE = ("tflite-int8", "tflite-fp32", "tflite-fp16", "onnx-fp32", "onnx-fp16", "onnx-int8")
#: tflite-runtime was given up for LiteRT with this release.
LAST_TFLITE_RUNTIME = "2.14.0"

log = logging.getLogger("edgedistill.runtime")


class Engine(Protocol):
    """A model file, loaded and ready; one thread at a time may use it."""

    name: str
    version: str
    threads: int
    model: ModelFile

    def input_pixels(self) -> np.ndarray | None:
        """Return the input tensor's own memory, (1, H, W, 3) uint8, for the `Preprocessor` to write into; None if it takes no bytes.

        It must then be given to `set_input`, once, and be let go of before `invoke`.
        """

    def set_input(self, pixels_nhwc: np.ndarray) -> None:
        """Write the pixels that the bundle's `Preprocessor` made, (1, H, W, 3), into the input tensor."""

    def copy_input(self, tensor: np.ndarray) -> None:
        """Copy a whole input tensor that was made elsewhere, see `preprocess.Filling`: the same shape, dtype and layout."""

    def invoke(self) -> None:
        """Run the network on the input."""

    def logits(self) -> np.ndarray:
        """Return a new (classes,) float32 array of the last run's logits, dequantized.

        Of a file that gives probabilities, their logarithms: logits with the same softmax.
        """

    def read_logits(self, into: np.ndarray) -> np.ndarray:
        """Write what `logits` returns into (classes,) float32 memory, and return that."""

    def run(self, pixels_nhwc: np.ndarray) -> np.ndarray:
        """Return the logits of these pixels: `set_input`, `invoke` and `logits` in one."""


class Interpreter(NamedTuple):
    """An interpreter that can be installed: what it runs, how to get it, how to open a file with it."""

    format: str
    module: str
    package: str
    extra: str
    open: Callable[[Path, ModelFile, int], Engine]


ENGINES: dict[str, Interpreter] = {
    "litert": Interpreter("tflite", "ai_edge_litert", "ai-edge-litert", "litert", tflite.open_litert),
    "tflite-runtime": Interpreter("tflite", "tflite_runtime", "tflite-runtime", "tflite-runtime", tflite.open_tflite_runtime),
    "onnxruntime": Interpreter("onnx", "onnxruntime", "onnxruntime", "onnx", ort.open_onnxruntime),
}


def open_engine(bundle: BundleOrPath, file: str | None = None, threads: int | None = None, *, engine: str | None = None) -> Engine:
    """Open one of a bundle's model files with an installed interpreter.

    Args:
        bundle: a loaded bundle or the path of its folder.
        file: a file name or FORMAT-PRECISION such as `tflite-int8`; by default the first of `PREFERENCE` that can run here.
        threads: threads of the interpreter; by default one a core, four at most.
        engine: a key of `ENGINES`; by default the first installed one that runs the file's format.
    """
    loaded = as_bundle(bundle)
    if threads is not None and threads < 1:
        raise EngineError(f"threads is {threads}; give 1 or more, or leave it out")
    model, name = choose(loaded, file, engine=engine)
    check_version(model, name, version=version_of(ENGINES[name]))
    return ENGINES[name].open(loaded.file_path(model.file), model, threads or default_threads())


def predict_logits(
    bundle: BundleOrPath,
    frames_bgr: Iterable[np.ndarray],
    *,
    file: str | None = None,
    threads: int | None = None,
    engine: str | None = None,
) -> np.ndarray:
    """Return the (N, classes) float32 logits of N frames, through the same preprocessing and engine as on the device.

    Args:
        frames_bgr: (H, W, 3) uint8 frames in BGR order, each of any size.
    """
    loaded = as_bundle(bundle)
    opened = open_engine(loaded, file, threads, engine=engine)
    preprocess = Preprocessor(loaded.manifest.input)
    rows = [opened.run(preprocess(frame)) for frame in frames_bgr]
    return np.stack(rows) if rows else np.empty((0, len(loaded.manifest.labels)), np.float32)


def as_bundle(bundle: BundleOrPath) -> Bundle:
    """Return the bundle itself, or load and check it from its folder."""
    return bundle if isinstance(bundle, Bundle) else bundles.load(bundle)


def installed_engines() -> dict[str, str]:
    """Return name and version of each installed interpreter, without importing any."""
    return {name: version_of(entry) for name, entry in ENGINES.items() if importlib.util.find_spec(entry.module) is not None}


def version_of(interpreter: Interpreter) -> str:
    """Return the installed version of an interpreter, `unknown` where its metadata is missing."""
    try:
        return importlib.metadata.version(interpreter.package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def default_threads() -> int:
    """Return one thread a core that this process may use, four at most: small networks gain nothing beyond."""
    return min(4, usable_cores())


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose(bundle: Bundle, file: str | None, *, engine: str | None = None) -> tuple[ModelFile, str]:
    """Return the model file to run and the name of the interpreter that runs it."""
    if engine is not None and engine not in ENGINES:
        raise EngineError(f"there is no engine {engine!r}; choose from {', '.join(ENGINES)}.{close_matches(engine, ENGINES)}")
    models = [bundle.model(file)] if file is not None else _by_preference(bundle)
    names = [engine] if engine is not None else list(ENGINES)
    pairs = [(model, name) for model in models for name in names if ENGINES[name].format == model.format]
    if not pairs:
        formats = ", ".join(sorted({model.format for model in models}))
        raise EngineError(
            f"{engine} does not run {formats} files, which is what {file or bundle.path} offers; choose another engine or file"
        )
    installed = installed_engines()
    here = [(model, name) for model, name in pairs if name in installed]
    if not here:
        first = ENGINES[pairs[0][1]]
        raise MissingExtraError(f"{first.package}, which runs {pairs[0][0].file},", first.extra)
    for model, name in here:
        if not is_too_old(model, name, version=installed[name]):
            return model, name
        log.warning("%s is passed over: it needs %s, installed is %s %s", model.file, model.minimum_runtime, name, installed[name])
    return here[0]


def is_too_old(model: ModelFile, name: str, *, version: str) -> bool:
    """Return whether an interpreter is older than the file needs."""
    needed = re.fullmatch(r"([a-z-]+)>=([\d.]+)", model.minimum_runtime)
    # LiteRT counts its versions anew from 1.0, and all of them are newer than any tflite-runtime.
    counted_as = "tflite" if name == "tflite-runtime" else name
    found = _numbers(version)
    return needed is not None and needed[1] == counted_as and bool(found) and found < _numbers(needed[2])


def check_version(model: ModelFile, name: str, *, version: str) -> None:
    """Raise if an interpreter is older than the file needs: old ones may run it all the same, and answer with zeros."""
    if not is_too_old(model, name, version=version):
        return
    advice = f"update it: pip install -U {ENGINES[name].package}"
    if name == "tflite-runtime" and is_too_old(model, name, version=LAST_TFLITE_RUNTIME):
        advice = (
            f"{LAST_TFLITE_RUNTIME} is its last release: use LiteRT in its place (pip install 'edgedistill[litert]'), "
            "or another file of the bundle, such as tflite-fp32"
        )
    raise EngineError(f"{model.file} needs {model.minimum_runtime}, installed is {name} {version}; {advice}")


def _numbers(version: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", version)[:3]]


def _by_preference(bundle: Bundle) -> list[ModelFile]:
    kinds = [f"{model.format}-{model.precision}" for model in bundle.manifest.files]
    known = [bundle.model(kind) for kind in PREFERENCE if kind in kinds]
    if not known:
        raise BundleError(f"{bundle.path} has no model file of the kinds {', '.join(PREFERENCE)}; export it again")
    return known
