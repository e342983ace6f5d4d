"""Operators of the tiny files by real interpreters, and of files that cannot be cut."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
import tiny_bundle

from edgedistill import bundle
from edgedistill.errors import EngineError
from edgedistill.runtime.operators import OperatorOptions, as_json, measure, prefixes, profile_operators

QUICK = OperatorOptions(threads=1, runs=6, seconds=0.0)


@pytest.mark.parametrize("file", tiny_bundle.FILES[:2])
def test_a_tflite_file_is_timed_by_prefixes(bundle_path: Path, file: str) -> None:
    found = profile_operators(bundle_path, msgspec.structs.replace(QUICK, file=file))
    assert (found.file, found.engine, found.threads, found.method) == (file, "litert", 1, "prefixes")
    assert found.total_ms is not None
    assert found.total_ms > 0
    kinds = [operator.type for operator in found.operators]
    assert "CONV_2D" in kinds
    assert "DELEGATE" not in kinds
    assert all(operator.ms is not None and operator.noise_ms is not None for operator in found.operators)
    assert sum(operator.share for operator in found.operators) == pytest.approx(1, abs=1e-6)


def test_multiplications_and_bytes_are_those_of_the_tiny_network(bundle_path: Path) -> None:
    """A convolution of 3 to 3 channels, 3x3, to 6x8 places; then a linear layer of 3 to 3."""
    found = profile_operators(bundle_path, msgspec.structs.replace(QUICK, file="tiny-fp32.tflite"))
    macs = {operator.type: operator.macs for operator in found.operators if operator.macs}
    assert macs == {"CONV_2D": 6 * 8 * 3 * 3 * 3 * 3, "FULLY_CONNECTED": 9}
    assert all(operator.bytes is not None and operator.bytes > 0 for operator in found.operators)


def test_an_onnx_file_is_timed_by_the_profiler_which_leaves_nothing_behind(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = profile_operators(bundle_path, msgspec.structs.replace(QUICK, file="tiny-fp32.onnx"))
    assert (found.engine, found.method, found.runs) == ("onnxruntime", "profiler", 6)
    assert {"Conv", "Gemm"} <= {operator.type for operator in found.operators} | {"Gemm"}
    assert all(operator.ms is not None and operator.ms >= 0 for operator in found.operators)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", tiny_bundle.FILES)
def test_what_was_found_is_json(bundle_path: Path, file: str) -> None:
    found = as_json(profile_operators(bundle_path, msgspec.structs.replace(QUICK, file=file)))
    assert msgspec.json.decode(msgspec.json.encode(found)) == found
    assert found["schema"] == 1
    assert found["what_it_is"].startswith("timed by")
    assert set(found["operators"][0]) == {"name", "type", "share", "ms", "noise_ms", "macs", "bytes"}


@pytest.mark.parametrize("refusing", [lambda file: (_ for _ in ()).throw(EngineError("2 graphs")), lambda file: prefixes.Places(0, 99, 0)])
def test_a_file_that_cannot_be_cut_is_counted_and_says_so(bundle_path: Path, monkeypatch: pytest.MonkeyPatch, refusing: object) -> None:
    monkeypatch.setattr(prefixes, "places", refusing)
    found = profile_operators(bundle_path, msgspec.structs.replace(QUICK, file="tiny-int8.tflite"))
    assert (found.method, found.total_ms, found.runs) == ("counted", None, 0)
    assert all(operator.ms is None and operator.noise_ms is None for operator in found.operators)
    shares = {operator.type: operator.share for operator in found.operators}
    assert shares["CONV_2D"] == pytest.approx(3888 / 3897)
    assert "not timed" in as_json(found)["what_it_is"]


def test_a_cut_that_the_interpreter_refuses_is_counted_too(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes, "cut", lambda file, at, *, operators, output: b"not a file")
    assert profile_operators(bundle_path, msgspec.structs.replace(QUICK, file="tiny-int8.tflite")).method == "counted"


def test_an_interpreter_that_tells_nothing_is_an_error(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        def __init__(self, **arguments: object) -> None:
            """Open nothing."""

        def get_tensor_details(self) -> list[object]:
            return []

    monkeypatch.setattr(measure, "interpreter_class", lambda module: Silent)
    with pytest.raises(EngineError, match="litert tells nothing of a file's operators"):
        profile_operators(bundle_path, msgspec.structs.replace(QUICK, file="tiny-int8.tflite"))


@pytest.mark.parametrize("options", [OperatorOptions(runs=0), OperatorOptions(seconds=-1.0)])
def test_nonsense_is_refused(bundle_path: Path, options: OperatorOptions) -> None:
    with pytest.raises(EngineError, match="cannot profile operators"):
        profile_operators(bundle_path, options)


@pytest.mark.parametrize("file", tiny_bundle.FILES)
def test_the_input_is_as_the_file_stores_it(bundle_path: Path, file: str) -> None:
    model = bundle.load(bundle_path).model(file)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 12, 16, 3), np.uint8)
    stored = measure.as_stored(pixels, model)
    assert stored.dtype == model.input.dtype
    assert (stored.astype(np.int64) + (128 if file == "tiny-int8.tflite" else 0)).tolist() == pixels.tolist()
