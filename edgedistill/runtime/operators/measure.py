"""Times or counts the operators of one model file, by what its interpreter allows."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgedistill.bundle import ModelFile
from edgedistill.errors import EngineError
from edgedistill.preprocess import fill_input, input_lookup
from edgedistill.runtime.compare_engines import noise
from edgedistill.runtime.engines import ENGINES, BundleOrPath, Engine, as_bundle, open_engine
from edgedistill.runtime.operators import onnx_profiler, prefixes
from edgedistill.runtime.operators.found import Found, Operator, Timed, timed
from edgedistill.runtime.tflite import interpreter_class


class OperatorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Which file, run how, and how long: each operator `runs` times at most, and of a TFLite file for `seconds` at most."""

    file: str | None = None
    engine: str | None = None
    threads: int | None = None
    runs: int = 50
    seconds: float = 0.15


DEFAULTS = OperatorOptions()


def profile_operators(bundle: BundleOrPath, options: OperatorOptions = DEFAULTS) -> Found:
    """Return what each operator of one model file takes, on an input of noise."""
    loaded = as_bundle(bundle)
    if options.runs < 1 or options.seconds < 0:
        raise EngineError(f"cannot profile operators in {options.runs} runs of {options.seconds} s; give at least 1 run")
    engine = open_engine(loaded, options.file, options.threads, engine=options.engine)
    pixels = noise(loaded)
    engine.set_input(pixels)
    total_ms = _invoke_ms(engine, options.runs)
    path, stored = loaded.file_path(engine.model.file), as_stored(pixels, engine.model)
    found = Found(engine.model.file, engine.name, engine.threads, "profiler", options.runs, total_ms, ())
    if engine.model.format == "onnx":
        kernels = onnx_profiler.profiled(path, stored, threads=engine.threads, warmup=3, runs=options.runs)
        return found._replace(operators=_by_profiler(kernels))
    return _tflite(found, path, stored, options)


def as_stored(pixels_nhwc: np.ndarray, model: ModelFile) -> np.ndarray:
    """Return pixels as an array of the file's own type and layout."""
    stored = np.zeros(model.input.shape, model.input.dtype)
    lookup = input_lookup(model.input, pixel_mean=model.pixel_mean)
    fill_input(pixels_nhwc, stored, lookup=lookup, layout=model.input.layout, pixel_mean=model.pixel_mean)
    return stored


def _invoke_ms(engine: Engine, runs: int) -> float:
    taken = []
    for _ in range(runs + 1):
        start = time.perf_counter_ns()
        engine.invoke()
        taken.append((time.perf_counter_ns() - start) / 1e6)
    return timed(taken[1:]).ms


def _by_profiler(kernels: list[onnx_profiler.Kernel]) -> tuple[Operator, ...]:
    figures = [timed(kernel.taken_ms) for kernel in kernels]
    shares = _shares([figure.ms for figure in figures])
    return tuple(
        Operator(kernel.name, kernel.type, share, *figure, macs=None, bytes=kernel.bytes)
        for kernel, share, figure in zip(kernels, shares, figures, strict=True)
    )


def _tflite(found: Found, path: Path, stored: np.ndarray, options: OperatorOptions) -> Found:
    opened = interpreter_class(f"{ENGINES[found.engine].module}.interpreter")
    try:
        nodes = prefixes.nodes(opened(model_path=str(path)))
    except AttributeError as error:
        raise EngineError(f"{found.engine} tells nothing of a file's operators ({error}); use a newer one") from error
    try:
        figures = _by_prefixes(partial(opened, num_threads=found.threads), path.read_bytes(), nodes, stored=stored, options=options)
    except (EngineError, ValueError, RuntimeError):  # a file that cannot be cut, or a cut that the interpreter refuses
        shares = _shares([node.macs for node in nodes])
        counted = tuple(
            Operator(one.name, one.type, share, None, None, one.macs, one.bytes) for one, share in zip(nodes, shares, strict=True)
        )
        return found._replace(method="counted", total_ms=None, runs=0, operators=counted)
    shares = _shares([figure.ms for figure in figures])
    operators = [
        Operator(node.name, node.type, share, *figure, macs=node.macs, bytes=node.bytes)
        for node, share, figure in zip(nodes, shares, figures, strict=True)
    ]
    return found._replace(method="prefixes", operators=tuple(operators))


def _by_prefixes(
    opened: Callable[..., Any], file: bytes, nodes: list[prefixes.Node], *, stored: np.ndarray, options: OperatorOptions
) -> list[Timed]:
    at = prefixes.places(file)
    if at.operators != len(nodes):
        raise EngineError(f"the interpreter tells of {len(nodes)} operators, the file has {at.operators}")

    def run(count: int) -> Callable[[], object]:
        interpreter = opened(model_content=prefixes.cut(file, at, operators=count, output=nodes[count - 1].output))
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], stored)
        invoke: Callable[[], object] = interpreter.invoke
        return invoke

    cuts = [partial(run, count) for count in range(1, len(nodes) + 1)]
    return prefixes.time_each(cuts, seconds=options.seconds, most=options.runs)


def _shares(values: list[float] | list[int]) -> list[float]:
    """Return each value's part of the whole; one below 0 counts as nothing."""
    whole = sum(max(value, 0) for value in values)
    return [max(value, 0) / whole if whole else 0.0 for value in values]
