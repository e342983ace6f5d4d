"""Files that come from elsewhere: a bundle's manifest and golden pair, results, model files and their metadata, recorded clips."""

from __future__ import annotations

import functools
import io
import shutil
import zipfile
from pathlib import Path

import finished_files
import msgspec
import numpy as np
import tiny_bundle
from fuzz_target import Target, clear, file_of, folder

from edgedistill import bundle, recipe
from edgedistill.bundle import Bundle, Golden, decode_manifest
from edgedistill.convert.onnx_file import read_metadata
from edgedistill.convert.tflite_file import describe, flatbuffer, labels, metadata, versions
from edgedistill.errors import BundleError, ConvertError, DataError, EngineError, RecipeError
from edgedistill.runtime.operators import prefixes
from edgedistill.runtime.recording.recover import recover
from edgedistill.runtime.results import read_results
from edgedistill.runtime.selfcheck import golden_pair


def manifest(data: bytes) -> None:
    """A manifest is refused, or means the same once it is written again."""
    try:
        found = decode_manifest(data)
    except BundleError as error:
        clear(error, data)
        return
    assert decode_manifest(msgspec.json.encode(found)) == found


def a_recipe(data: bytes) -> None:
    """A recipe is refused, or means the same once it is written again."""
    try:
        found = recipe.load(file_of("recipe.toml", data))
    except RecipeError as error:
        clear(error, data)
        return
    assert recipe.decode(recipe.encode(found)) == found


@functools.cache
def a_bundle() -> Path:
    return tiny_bundle.make(folder() / "tiny")


def recipes() -> tuple[bytes, ...]:
    """Return the recipes that are shipped."""
    return tuple(path.read_bytes() for path in sorted((Path(__file__).parents[2] / "models").glob("*/recipe.toml")))


def manifests() -> tuple[bytes, ...]:
    """Return the manifests of the tiny bundle and of those that are shipped."""
    shipped = sorted((Path(__file__).parents[2] / "export").glob("*/manifest.json"))
    return tuple(path.read_bytes() for path in [a_bundle() / bundle.MANIFEST_NAME, *shipped])


def loading(data: bytes) -> None:
    """A bundle whose manifest names any file is refused, or the file is in its folder."""
    name = data.decode("utf-8", "replace")
    whole = decode_manifest((a_bundle() / bundle.MANIFEST_NAME).read_bytes())
    named = msgspec.structs.replace(whole, files=[msgspec.structs.replace(whole.files[0], file=name)])
    path = folder() / "named"
    if not path.exists():
        shutil.copytree(a_bundle(), path)
        (path / "link").symlink_to("..")
    (path / bundle.MANIFEST_NAME).write_bytes(msgspec.json.encode(named))
    for verify in (True, False):
        try:
            found = bundle.load(path, verify=verify)
        except BundleError as error:
            clear(error, data)
            continue
        assert found.file_path(name).resolve().is_relative_to(path.resolve())


def golden(data: bytes) -> None:
    """A golden pair is refused, or it is frames and logits that can be run and compared; the same for an array of it."""
    _golden(data)
    for name in ("frames_bgr", "logits/x"):  # checksums keep damage in an archive from what it does to the arrays
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            if name != "frames_bgr":
                archive.writestr("frames_bgr.npy", array(np.zeros((1, 2, 2, 3), np.uint8)))
            archive.writestr(f"{name}.npy", data)
        _golden(stream.getvalue())


def array(values: np.ndarray) -> bytes:
    """Return an array as a file."""
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def _golden(data: bytes) -> None:
    path = file_of("golden.npz", data)
    whole = decode_manifest((a_bundle() / bundle.MANIFEST_NAME).read_bytes())
    loaded = Bundle(path.parent, msgspec.structs.replace(whole, golden=Golden(file=path.name, sha256="0" * 64)))
    try:
        frames_bgr, expected = golden_pair(loaded)
    except BundleError as error:
        clear(error, data)
        return
    assert frames_bgr.dtype == np.uint8
    assert frames_bgr.shape[3] == 3
    assert min(frames_bgr.shape) > 0
    assert all(np.issubdtype(logits.dtype, np.floating) for logits in expected.values())


def goldens() -> tuple[bytes, ...]:
    """Return golden pairs, compressed and not."""
    frames_bgr, logits = np.zeros((1, 2, 3, 3), np.uint8), np.ones((1, 3), np.float32)
    plain = io.BytesIO()
    np.savez(plain, frames_bgr=frames_bgr, **{"logits/tiny-fp32.onnx": logits})
    return (a_bundle() / "golden.npz").read_bytes(), plain.getvalue(), array(frames_bgr), array(logits)


def results(data: bytes) -> None:
    """Results are refused, or the same whether or not the run is over; a torn last line is no reason to refuse those before it."""
    found: list[list[object]] = []
    for over in (True, False):
        read: list[object] = []
        try:
            for line in read_results(io.BytesIO(data), finished=over):
                read.append(line)  # what came before an error counts
        except DataError as error:
            clear(error, data)
        found.append(read)
    assert found[0] == found[1]
    assert len(found[0]) <= data.count(b"\n") + 1


def lines() -> tuple[bytes, ...]:
    """Return results as the loop writes them."""
    stages = {"capture": 0.1, "preprocess": 0.2, "invoke": 3.0, "postprocess": 0.1, "total": 3.4}
    line = {
        "schema": 1,
        "source": {"index": 0, "name": "rtsp://host/stream"},
        "frame_id": 7,
        "time_s": 1.7e9,
        "time_monotonic_s": 12.5,
        "top_k": [{"class_id": 1, "label": 'a "b"\u2028é', "score": 0.5}],
        "stages_ms": stages,
        "age_ms": 4.0,
        "dropped": 0,
    }
    whole = msgspec.json.encode(line) + b"\n"
    return whole * 2, whole + whole[:50]


def tflite_metadata(data: bytes) -> None:
    """Metadata are refused, or a few texts and numbers."""
    try:
        found = metadata.decode(data)
    except ConvertError as error:
        clear(error, data)
        return
    assert len(found.mean) <= len(data)
    assert 0 <= found.width < 2**32


def tflite(data: bytes) -> None:
    """A TFLite file is refused, or can be described, and packed again."""
    path = file_of("fuzzed.tflite", data)
    try:
        model = flatbuffer.read(path)
        graph = model.subgraphs[0]
        for index in (*graph.inputs, *graph.outputs):
            describe.tensor(graph.tensors[index])
        assert all(flatbuffer.operator_name(model, operator) for operator in graph.operators)
        assert versions.stamped(model)
        flatbuffer.metadata(model, metadata.ENTRY)
    except ConvertError as error:
        clear(error, data)


def tflite_labels(data: bytes) -> None:
    """A label file behind a model is refused, or lines of text."""
    try:
        found = labels.read(file_of("labelled.tflite", data))
    except ConvertError as error:
        clear(error, data)
        return
    assert all("\n" not in label for label in found)


def cut(data: bytes) -> None:
    """A TFLite file cannot be cut, or stays as long as it was."""
    try:
        at = prefixes.places(data)
        assert len(prefixes.cut(data, at, operators=1, output=0)) == len(data)
    except EngineError as error:
        clear(error, data)


def onnx_metadata(data: bytes) -> None:
    """An ONNX file is refused, or says text of itself."""
    try:
        found = read_metadata(file_of("fuzzed.onnx", data))
    except ConvertError as error:
        clear(error, data)
        return
    assert all(isinstance(text, str) for text in found.values())


STEM = "20240101T000000-cat-0"


def clip(data: bytes) -> None:
    """What a killed run left of a clip becomes a clip that is told of, or is removed."""
    path = folder() / "events"
    path.mkdir(exist_ok=True)
    for name in (f".{STEM}.work.part", f"{STEM}.avi"):
        (path / name).write_bytes(data)
        made = recover(path)
        assert (path / f"{STEM}.json").exists() or not made
        for left in path.iterdir():
            assert not left.name.startswith(".")
            left.unlink()


TARGETS = {
    "manifest": Target(manifest, manifests),
    "recipe": Target(a_recipe, recipes),
    "bundle": Target(loading, lambda: (b"tiny-fp32.onnx", b"../tiny/golden.npz", b"link/tiny/golden.npz", b"/etc/passwd", b"a\0b")),
    "golden": Target(golden, goldens),
    "results": Target(results, lines),
    "tflite": Target(tflite, finished_files.tiny, guided=True),
    "tflite_metadata": Target(tflite_metadata, finished_files.described, guided=True),
    "tflite_labels": Target(tflite_labels, finished_files.labelled),
    "cut": Target(cut, finished_files.tiny, guided=True),
    "onnx_metadata": Target(onnx_metadata, lambda: (finished_files.onnx_with_facts(),)),
    "clip": Target(clip, finished_files.clips, guided=True),
}
