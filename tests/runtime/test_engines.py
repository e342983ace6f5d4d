"""Engines on the tiny real bundle: the right answer from every interpreter, the right file chosen, clear refusals."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import tiny_bundle

from edgedistill import bundle
from edgedistill.bundle import Bundle, ModelFile, Quantization, Tensor
from edgedistill.errors import BundleError, DataError, EngineError, MissingExtraError
from edgedistill.postprocess import softmax
from edgedistill.preprocess import Filling, Preprocessor
from edgedistill.runtime import engines, open_engine, ort, predict_logits
from edgedistill.runtime.tflite import TfliteEngine

FRAMES = [tiny_bundle.card(label) for label in tiny_bundle.LABELS]


def reference_logits(frame_bgr: np.ndarray) -> np.ndarray:
    """Return the tiny network's logits, computed in plain numpy from its definition."""
    spec = bundle.Preprocess(height=12, width=16, resize="crop", interpolation="area")
    x = (Preprocessor(spec)(frame_bgr)[0].astype(np.float64) - 128) / 127.5
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    mix = 1.5 * np.eye(3) - 0.5
    means = np.zeros(3)
    for row in range(6):
        for column in range(8):
            window = padded[2 * row : 2 * row + 3, 2 * column : 2 * column + 3].sum((0, 1)) / 9
            means += np.maximum(mix @ window + 0.1, 0) / 48
    return (4 * np.eye(3) - 1) @ means + [0.2, 0.0, -0.2]


@pytest.mark.parametrize(
    ("file", "name", "tolerance"),
    [("tiny-fp32.onnx", "onnxruntime", 1e-4), ("tiny-fp32.tflite", "litert", 1e-4), ("tiny-int8.tflite", "litert", 0.08)],
)
def test_each_engine_answers_like_the_definition(bundle_path: Path, file: str, name: str, tolerance: float) -> None:
    rng = np.random.default_rng(3)
    frames = [*FRAMES, rng.integers(0, 256, (31, 50, 3), dtype=np.uint8)]
    found = predict_logits(bundle_path, frames, file=file)
    assert found.dtype == np.float32
    assert found.shape == (4, 3)
    np.testing.assert_allclose(found, [reference_logits(frame) for frame in frames], atol=tolerance)
    assert open_engine(bundle_path, file).name == name


@pytest.mark.parametrize("file", tiny_bundle.FILES)
def test_a_red_card_is_red(bundle_path: Path, file: str) -> None:
    assert [tiny_bundle.LABELS[i] for i in predict_logits(bundle_path, FRAMES, file=file).argmax(1)] == tiny_bundle.LABELS


@pytest.mark.parametrize("file", tiny_bundle.FILES)
def test_logits_are_the_callers_own(bundle_path: Path, file: str) -> None:
    loaded = bundle.load(bundle_path)
    engine, preprocess = open_engine(loaded, file), Preprocessor(loaded.manifest.input)
    red = engine.run(preprocess(FRAMES[0]))
    kept = red.copy()
    blue = engine.run(preprocess(FRAMES[2]))
    np.testing.assert_array_equal(red, kept)
    assert not np.array_equal(red, blue)
    engine.set_input(preprocess(FRAMES[0]))
    engine.invoke()
    np.testing.assert_array_equal(engine.logits(), red)


@pytest.mark.parametrize("file", tiny_bundle.FILES)
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_do_not_change_the_answer(bundle_path: Path, file: str, threads: int) -> None:
    engine = open_engine(bundle_path, file, threads)
    assert engine.threads == threads
    assert engine.version == engines.installed_engines()[engine.name]
    np.testing.assert_allclose(
        predict_logits(bundle_path, FRAMES, file=file, threads=threads), predict_logits(bundle_path, FRAMES, file=file), rtol=1e-5
    )


def test_no_frames_make_no_rows(bundle_path: Path) -> None:
    assert predict_logits(bundle_path, []).shape == (0, 3)


def test_a_frame_of_another_kind_is_refused(bundle_path: Path) -> None:
    with pytest.raises(DataError, match="must be"):
        predict_logits(bundle_path, [np.zeros((4, 4), np.uint8)])
    with pytest.raises(DataError, match="takes pixels of shape"):
        open_engine(bundle_path).set_input(np.zeros((1, 5, 16, 3), np.uint8))


def only(loaded: Bundle, *files: str) -> Bundle:
    """Return the bundle with only some of its files."""
    kept = [entry for entry in loaded.manifest.files if entry.file in files]
    return Bundle(loaded.path, msgspec.structs.replace(loaded.manifest, files=kept))


ALL = {"litert": "2.3.0", "tflite-runtime": "2.14.0", "onnxruntime": "1.32.0"}
NO_TFLITE = {"onnxruntime": "1.32.0"}


@pytest.mark.parametrize(
    ("installed", "file", "engine", "expected"),
    [
        (ALL, None, None, ("tiny-int8.tflite", "litert")),
        (ALL, None, "tflite-runtime", ("tiny-int8.tflite", "tflite-runtime")),
        (ALL, None, "onnxruntime", ("tiny-fp32.onnx", "onnxruntime")),
        (ALL, "tflite-fp32", None, ("tiny-fp32.tflite", "litert")),
        (ALL, "tiny-fp32.onnx", None, ("tiny-fp32.onnx", "onnxruntime")),
        ({"tflite-runtime": "2.14.0"}, None, None, ("tiny-int8.tflite", "tflite-runtime")),
        (NO_TFLITE, None, None, ("tiny-fp32.onnx", "onnxruntime")),
    ],
)
def test_choosing(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], file: str, engine: str, expected: tuple[str, str]
) -> None:
    monkeypatch.setattr(engines, "installed_engines", lambda: installed)
    model, name = engines.choose(bundle.load(bundle_path), file, engine=engine)
    assert (model.file, name) == expected


@pytest.mark.parametrize(
    ("installed", "file", "engine", "error", "message"),
    [
        ({}, None, None, MissingExtraError, r"ai-edge-litert.*pip install 'edgedistill\[litert\]'"),
        ({}, "onnx-fp32", None, MissingExtraError, r"onnxruntime.*pip install 'edgedistill\[onnx\]'"),
        (NO_TFLITE, "tflite-int8", None, MissingExtraError, r"pip install 'edgedistill\[litert\]'"),
        (ALL, None, "litrt", EngineError, "there is no engine 'litrt'.*Did you mean 'litert'"),
        (ALL, "tflite-int8", "onnxruntime", EngineError, "onnxruntime does not run tflite files"),
        (ALL, "tiny-int8.onnx", None, BundleError, "has no model file 'tiny-int8.onnx'"),
        ({"litert": "2.3.0"}, None, "tflite-runtime", MissingExtraError, r"pip install 'edgedistill\[tflite-runtime\]'"),
    ],
)
def test_choosing_fails_clearly(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], file: str, engine: str, error: type, message: str
) -> None:
    monkeypatch.setattr(engines, "installed_engines", lambda: installed)
    with pytest.raises(error, match=message):
        open_engine(bundle_path, file, engine=engine)


@pytest.mark.parametrize(
    ("minimum", "name", "version", "good"),
    [
        ("tflite>=2.14", "tflite-runtime", "2.14.0", True),
        ("tflite>=2.14", "tflite-runtime", "2.5.0", False),
        ("tflite>=2.17", "tflite-runtime", "2.14.0", False),
        ("tflite>=2.17", "litert", "1.0.1", True),
        ("litert>=2.1", "litert", "1.4.0", False),
        ("litert>=2.1", "litert", "2.3.0", True),
        ("onnxruntime>=1.21", "onnxruntime", "1.9.0", False),
        ("onnxruntime>=1.21", "onnxruntime", "1.21", True),
        ("onnxruntime>=1.21", "onnxruntime", "unknown", True),
        ("2.3.0", "litert", "1.0", True),
    ],
)
def test_an_interpreter_that_is_too_old(bundle_path: Path, minimum: str, name: str, version: str, good: bool) -> None:
    model = msgspec.structs.replace(bundle.load(bundle_path).manifest.files[0], minimum_runtime=minimum)
    if good:
        engines.check_version(model, name, version=version)
        return
    with pytest.raises(EngineError, match=f"needs {minimum}, installed is {name} {version}; "):
        engines.check_version(model, name, version=version)


@pytest.mark.parametrize(
    ("minimum", "version", "advice"),
    [
        ("tflite>=2.14", "2.5.0", r"update it: pip install -U tflite-runtime$"),
        ("tflite>=2.17", "2.5.0", r"2\.14\.0 is its last release: use LiteRT .*edgedistill\[litert\].*or another file .*tflite-fp32"),
        ("tflite>=2.17", "2.14.0", r"2\.14\.0 is its last release"),
    ],
)
def test_whoever_has_too_old_an_interpreter_is_told_what_to_do(bundle_path: Path, minimum: str, version: str, advice: str) -> None:
    model = msgspec.structs.replace(bundle.load(bundle_path).manifest.files[0], minimum_runtime=minimum)
    with pytest.raises(EngineError, match=advice):
        engines.check_version(model, "tflite-runtime", version=version)


def needing(loaded: Bundle, minimum: str, *kinds: str) -> Bundle:
    """Return the bundle with another minimum runtime of some of its formats."""
    files = [msgspec.structs.replace(entry, minimum_runtime=minimum) if entry.format in kinds else entry for entry in loaded.manifest.files]
    return Bundle(loaded.path, msgspec.structs.replace(loaded.manifest, files=files))


@pytest.mark.parametrize("file", [None, "tflite-int8"])
def test_an_old_interpreter_is_refused_before_it_answers(bundle_path: Path, file: str | None) -> None:
    newer = only(needing(bundle.load(bundle_path), "litert>=9.0", "tflite"), *tiny_bundle.FILES[:2])
    with pytest.raises(EngineError, match=r"tiny-int8.tflite needs litert>=9\.0"):
        open_engine(newer, file)


def test_a_file_that_the_interpreter_is_too_old_for_is_passed_over_and_that_is_said(
    bundle_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    newer = needing(bundle.load(bundle_path), "litert>=9.0", "tflite")
    assert open_engine(newer).model.file == "tiny-fp32.onnx"
    assert caplog.messages == [f"{file} is passed over: it needs litert>=9.0, installed is litert 2.3.0" for file in tiny_bundle.FILES[:2]]


def test_of_two_interpreters_the_one_that_is_new_enough_runs_the_file(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "ENGINES", dict(reversed(engines.ENGINES.items())))
    monkeypatch.setattr(engines, "installed_engines", lambda: ALL)
    loaded = bundle.load(bundle_path)
    for minimum, name in (("tflite>=2.14", "tflite-runtime"), ("tflite>=2.17", "litert")):
        assert engines.choose(needing(loaded, minimum, "tflite"), "tflite-int8")[1] == name


def test_a_bundle_with_one_file_runs_that_file(bundle_path: Path) -> None:
    assert open_engine(only(bundle.load(bundle_path), "tiny-fp32.onnx")).model.file == "tiny-fp32.onnx"


@pytest.mark.parametrize("threads", [0, -2])
def test_threads_must_be_positive(bundle_path: Path, threads: int) -> None:
    with pytest.raises(EngineError, match=f"threads is {threads}"):
        open_engine(bundle_path, threads=threads)


def test_threads_by_default_are_one_a_core_and_four_at_most(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, threads in ((1, 1), (2, 2), (64, 4)):
        monkeypatch.setattr(engines, "usable_cores", lambda cores=cores: cores)
        assert open_engine(bundle_path).threads == threads


def changed(model: ModelFile, side: str, **changes: object) -> ModelFile:
    """Return a model file's entry with its input or output described otherwise."""
    return msgspec.structs.replace(model, **{side: msgspec.structs.replace(getattr(model, side), **changes)})


@pytest.mark.parametrize(
    ("file", "side", "changes", "message"),
    [
        ("tiny-fp32.onnx", "input", {"shape": [1, 16, 12, 3]}, r"is uint8 \[1, 12, 16, 3\], the manifest says uint8 \[1, 16, 12, 3\]"),
        ("tiny-fp32.onnx", "input", {"dtype": "float32"}, "the manifest says float32"),
        ("tiny-fp32.onnx", "output", {"shape": [1, 4]}, "logits is float32"),
        ("tiny-fp32.tflite", "input", {"shape": [1, 16, 12, 3]}, r"is float32 \[1, 12, 16, 3\]"),
        ("tiny-fp32.tflite", "output", {"shape": [3]}, r"the manifest says float32 \[3\]"),
        (
            "tiny-int8.tflite",
            "input",
            {"quantization": Quantization(scale=1.0, zero_point=-127)},
            "zero point -128, the manifest says 1.0 and -127",
        ),
        ("tiny-int8.tflite", "output", {"quantization": Quantization(scale=0.1, zero_point=-61)}, "manifest says 0.1 and -61"),
    ],
)
def test_a_file_that_is_not_what_the_manifest_says_is_refused(
    bundle_path: Path, file: str, side: str, changes: dict[str, object], message: str
) -> None:
    model = changed(bundle.load(bundle_path).model(file), side, **changes)
    opener = engines.ENGINES["onnxruntime" if model.format == "onnx" else "litert"].open
    with pytest.raises(EngineError, match=message):
        opener(bundle_path / file, model, 1)


@pytest.mark.parametrize("file", ["tiny-int8.tflite", "tiny-fp32.onnx"])
def test_a_file_that_is_no_model_is_refused(own_bundle: Path, file: str) -> None:
    loaded = bundle.load(own_bundle)
    (own_bundle / file).write_bytes(b"this is not a model" * 10)
    with pytest.raises(EngineError, match=f"refuses .*{file}"):
        open_engine(loaded, file)


def test_a_changed_file_is_refused_by_its_checksum(own_bundle: Path) -> None:
    data = bytearray((own_bundle / "tiny-int8.tflite").read_bytes())
    data[-1] ^= 1
    (own_bundle / "tiny-int8.tflite").write_bytes(data)
    with pytest.raises(BundleError, match="checksum"):
        open_engine(own_bundle)


@pytest.mark.parametrize(("file", "module"), [("tiny-int8.tflite", "ai_edge_litert.interpreter"), ("tiny-fp32.onnx", "onnxruntime")])
def test_an_interpreter_that_does_not_load_says_so(bundle_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    model = bundle.load(bundle_path).model(file)
    opener = engines.ENGINES["onnxruntime" if model.format == "onnx" else "litert"].open
    with pytest.raises(EngineError, match="is installed but does not load"):
        opener(bundle_path / file, model, 1)


def test_onnxruntime_threads_sleep_between_frames(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    seen = {}
    session = onnxruntime.InferenceSession

    def spying(path: str, options: onnxruntime.SessionOptions, **arguments: object) -> onnxruntime.InferenceSession:
        seen["spinning"] = options.get_session_config_entry("session.intra_op.allow_spinning")
        seen["threads"] = options.intra_op_num_threads
        return session(path, options, **arguments)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spying)
    loaded = bundle.load(bundle_path)
    ort.open_onnxruntime(bundle_path / "tiny-fp32.onnx", loaded.model("onnx-fp32"), 2)
    assert seen == {"spinning": "0", "threads": 2}


@pytest.mark.parametrize(("dtype", "zero_point"), [("int8", -7), ("uint8", 100)])
def test_a_quantized_output_is_dequantized(dtype: str, zero_point: int) -> None:
    tensor = Tensor(name="y", shape=[1, 3], dtype=dtype, layout="NC", quantization=Quantization(scale=0.5, zero_point=zero_point))  # type: ignore[arg-type]
    interpreter = HoldingInterpreter("float32")
    interpreter.memory[1] = np.array([[-128, 0, 127]] if dtype == "int8" else [[0, 100, 255]], dtype)
    model = msgspec.structs.replace(lifted("float32"), output=tensor, scores="logits")
    engine = TfliteEngine(interpreter, model, name="x", version="1", threads=1)
    assert engine.logits().tolist() == [0.5 * (int(value) - zero_point) for value in interpreter.memory[1][0]]


def lifted(kind: str) -> ModelFile:
    """Return the entry of a file whose float32 input is the pixel less 100, or whose bytes stand for it."""
    quantization = Quantization(scale=1.0, zero_point=100) if kind == "uint8" else None
    tensor = Tensor(name="pixels", shape=[1, 2, 2, 3], dtype=kind, layout="NHWC", quantization=quantization)  # type: ignore[arg-type]
    scores = Tensor(name="scores", shape=[1, 3], dtype="float32", layout="NC")
    return ModelFile(
        file="x",
        format="onnx",
        precision="fp32",
        bytes=1,
        sha256="0" * 64,
        input=tensor,
        output=scores,
        minimum_runtime="",
        pixel_mean=100,
        scores="probabilities",
    )


class HoldingInterpreter:
    """A TFLite interpreter that keeps its input and whose output is set from outside."""

    def __init__(self, dtype: str) -> None:
        self.memory = {0: np.full((1, 2, 2, 3), 7, dtype), 1: np.array([[0.5, 0.5, 0.0]], np.float32)}

    def invoke(self) -> None:
        """Compute nothing."""

    def get_input_details(self) -> list[dict[str, int]]:
        return [{"index": 0}]

    def get_output_details(self) -> list[dict[str, int]]:
        return [{"index": 1}]

    def tensor(self, index: int):
        return lambda: self.memory[index]


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_pixels_come_in_as_the_file_takes_them_and_probabilities_go_out_as_logits(dtype: str) -> None:
    interpreter = HoldingInterpreter(dtype)
    engine = TfliteEngine(interpreter, lifted(dtype), name="x", version="1", threads=1)
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3) * 20
    logits = engine.run(pixels)
    assert interpreter.memory[0].tolist() == (pixels if dtype == "uint8" else pixels - np.float32(100)).tolist()
    np.testing.assert_allclose(softmax(logits), [0.5, 0.5, 0], atol=1e-30)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("kinds", [("tflite-fp16",), ("onnx-fp16",), ("tflite-fp16", "onnx-int8")])
def test_fp16_files_are_chosen_too(bundle_path: Path, kinds: tuple[str, ...]) -> None:
    loaded = bundle.load(bundle_path)
    plain = loaded.model("tflite-fp32")
    files = [
        msgspec.structs.replace(plain, file=kind, format=kind.partition("-")[0], precision=kind.partition("-")[2])  # type: ignore[arg-type]
        for kind in kinds
    ]
    chosen, _ = engines.choose(Bundle(loaded.path, msgspec.structs.replace(loaded.manifest, files=files)), None)
    assert chosen.file == kinds[0]


@pytest.mark.parametrize("file", tiny_bundle.FILES)
def test_pixels_in_the_models_own_memory_give_the_same_logits(bundle_path: Path, file: str) -> None:
    loaded = bundle.load(bundle_path)
    engine, preprocess = open_engine(loaded, file), Preprocessor(loaded.manifest.input)
    frames = [*FRAMES, np.random.default_rng(5).integers(0, 256, (31, 50, 3), dtype=np.uint8)]
    memory = np.full(3, 9, np.float32)
    for frame in frames * 2:
        expected = engine.run(preprocess(frame))
        engine.set_input(preprocess(frame, engine.input_pixels()))
        engine.invoke()
        assert engine.read_logits(memory) is memory
        np.testing.assert_array_equal(memory, expected)
        np.testing.assert_array_equal(engine.logits(), expected)


@pytest.mark.parametrize("file", tiny_bundle.FILES)
def test_a_tensor_that_was_filled_elsewhere_gives_the_same_logits(bundle_path: Path, file: str) -> None:
    loaded = bundle.load(bundle_path)
    engine, preprocess = open_engine(loaded, file), Preprocessor(loaded.manifest.input)
    filling, tensor = Filling(engine.model), np.empty(engine.model.input.shape, engine.model.input.dtype)
    for frame in FRAMES:
        expected = engine.run(preprocess(frame))
        filling.fill(preprocess(frame, filling.pixels(tensor)), tensor)
        engine.copy_input(tensor)
        engine.invoke()
        np.testing.assert_array_equal(engine.logits(), expected)
    with pytest.raises(ValueError, match="different structures"):
        engine.copy_input(tensor[:, 1:])


@pytest.mark.parametrize(("file", "bytes_fit"), [("tiny-int8.tflite", True), ("tiny-fp32.tflite", False), ("tiny-fp32.onnx", True)])
def test_only_a_tensor_of_bytes_is_handed_out(bundle_path: Path, file: str, bytes_fit: bool) -> None:
    pixels = open_engine(bundle_path, file).input_pixels()
    assert (pixels is not None) == bytes_fit
    assert pixels is None or (pixels.shape, pixels.dtype, pixels.flags.writeable) == ((1, 12, 16, 3), np.uint8, True)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_probabilities_are_read_into_given_memory_too(dtype: str) -> None:
    engine = TfliteEngine(HoldingInterpreter(dtype), lifted(dtype), name="x", version="1", threads=1)
    memory = np.empty(3, np.float32)
    np.testing.assert_array_equal(engine.read_logits(memory), engine.logits())
    engine._output()[0] = 1  # what was read stays
    assert memory.tolist() == pytest.approx([np.log(0.5), np.log(0.5), np.log(np.finfo(np.float32).tiny)])
