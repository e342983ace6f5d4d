"""A bundle either loads whole, or says what is wrong with it: broken, cut short, swapped, or pointing out of its folder."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill import bundle
from edgedistill.bundle import MANIFEST_NAME, Manifest, decode_manifest, inside, load, sha256_of, write_atomically, write_manifest
from edgedistill.errors import BundleError

MODEL, GOLDEN = b"not really a network", b"not really an npz"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def model_entry(file: str = "model-int8.tflite", **changes: Any) -> dict[str, Any]:
    return {
        "file": file,
        "format": "tflite",
        "precision": "int8",
        "bytes": len(MODEL),
        "sha256": sha256(MODEL),
        "input": {
            "name": "image",
            "shape": [1, 32, 32, 3],
            "dtype": "int8",
            "layout": "NHWC",
            "quantization": {"scale": 1.0, "zero_point": -128},
        },
        "output": {"name": "logits", "shape": [1, 3], "dtype": "float32", "layout": "NC"},
        "minimum_runtime": "2.3.0",
        **changes,
    }


VALID: dict[str, Any] = {
    "format": 1,
    "name": "tiny",
    "task": "classification",
    "labels": ["cat", "dog", "owl"],
    "input": {"height": 32, "width": 32},
    "files": [model_entry()],
    "golden": {"file": "golden.npz", "sha256": sha256(GOLDEN)},
    "provenance": {
        "student": "timm:mobilenetv2_035",
        "student_sha256": "00",
        "teacher": None,
        "dataset": "embedded",
        "dataset_sha256": "00",
        "dataset_licence": "MIT",
        "recipe_sha256": "00",
        "created": "2026-01-01T00:00:00Z",
        "versions": {"edgedistill": "0.1.0"},
    },
}


def changed(path: str, value: Any) -> bytes:
    """Return the valid manifest with one value changed (None removes it); a path is for example files.0.bytes."""
    tree: Any = copy.deepcopy(VALID)
    *steps, last = [int(step) if step.isdecimal() else step for step in path.split(".")]
    node = tree
    for step in steps:
        node = node[step]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return json.dumps(tree).encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole bundle."""
    path = tmp_path / "bundle"
    path.mkdir()
    (path / "model-int8.tflite").write_bytes(MODEL)
    (path / "golden.npz").write_bytes(GOLDEN)
    (path / MANIFEST_NAME).write_text(json.dumps(VALID))
    return path


def test_a_whole_bundle_loads(folder: Path) -> None:
    loaded = load(folder)
    assert loaded.path == folder
    assert loaded.manifest.labels == ["cat", "dog", "owl"]
    assert (loaded.manifest.input.color, loaded.manifest.input.resize, loaded.manifest.input.mean) == ("RGB", "stretch", None)
    assert loaded.file_path("model-int8.tflite").read_bytes() == MODEL
    assert load(str(folder)) == loaded


@pytest.mark.parametrize("name", ["model-int8.tflite", "tflite-int8"])
def test_a_model_is_found_by_file_or_by_kind(folder: Path, name: str) -> None:
    assert load(folder).model(name).file == "model-int8.tflite"


def test_an_unknown_model_offers_close_matches(folder: Path) -> None:
    with pytest.raises(
        BundleError, match=r"no model file 'model-int8.tflit'; it has model-int8.tflite. Did you mean 'model-int8.tflite'\?"
    ):
        load(folder).model("model-int8.tflit")


def test_a_manifest_survives_writing_and_reading(folder: Path) -> None:
    manifest = load(folder).manifest
    write_manifest(folder, manifest)
    text = (folder / MANIFEST_NAME).read_text()
    assert load(folder).manifest == manifest
    assert text.startswith('{\n  "format": 1,')
    assert text.endswith("}\n")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("format", 2, "has format 2, this version reads format 1; update edgedistill"),
        ("format", "1", "has format '1'"),
        ("format", True, "has format True"),
        ("format", None, "has format None"),
        ("lables", ["a", "b"], "unknown key 'lables'. Did you mean 'labels'?"),
        ("files.0.sha265", "00", r"unknown key 'files\[0\].sha265'. Did you mean 'sha256'?"),
        ("input.mean", [1, 2, 3], "mean and std must be given together"),
        ("input.height", 0, "input.height = 0: expected `int` >= 1"),
        ("input.height", "32", "input.height = '32': expected `int`, got `str`"),
        ("input.resize", "pad", "input.resize = 'pad': expected one of 'stretch', 'crop'"),
        ("input.interpolation", "cubic", "expected one of 'area', 'linear', 'nearest'"),
        ("task", "detection", "task = 'detection'"),
        ("labels", ["cat", "cat", "owl"], "labels must differ"),
        ("labels", ["cat"], "labels: expected `array` of length >= 2"),
        ("labels", ["cat", "dog"], r"model-int8.tflite has output shape \[1, 3\] for 2 labels"),
        ("labels", ["cat", "dog", ""], r"labels\[2\] = ''"),
        ("files", [], "files: expected `array` of length >= 1"),
        ("files", [model_entry(), model_entry()], "two entries of files name the same file"),
        ("files.0.sha256", "abc", r"files\[0\].sha256 = 'abc'"),
        ("files.0.sha256", "0" * 64 + "\n", r"files\[0\].sha256"),
        ("files.0.sha256", "A" * 64, r"files\[0\].sha256"),
        ("files.0.bytes", 0, r"files\[0\].bytes = 0"),
        ("files.0.accuracy", 1.01, r"files\[0\].accuracy = 1.01"),
        ("files.0.file", "", r"files\[0\].file = ''"),
        ("files.0.input.shape", [1, 16, 16, 3], r"has input shape \[1, 16, 16, 3\], frames come as \[1, 32, 32, 3\]"),
        ("files.0.input.layout", "NCHW", r"frames come as \[1, 3, 32, 32\]"),
        ("files.0.input.quantization", None, "image is int8, which needs a quantization"),
        ("files.0.input.quantization.scale", 0, r"files\[0\].input.quantization.scale = 0"),
        ("files.0.input.quantization.zero_point", 128, "zero point 128, int8 holds -128 to 127"),
        ("files.0.input.dtype", "uint8", "zero point -128, uint8 holds 0 to 255"),
        ("files.0.output.quantization", {"scale": 1, "zero_point": 0}, "logits is float32, which takes no quantization"),
        ("provenance", None, "missing required field `provenance`"),
        ("provenance.versions", {"torch": 2}, "versions"),
        ("golden.sha256", 5, "golden.sha256 = 5"),
    ],
)
def test_a_broken_manifest_says_where(path: str, value: Any, said: str) -> None:
    with pytest.raises(BundleError, match=said) as caught:
        decode_manifest(changed(path, value), where="some/manifest.json")
    assert str(caught.value).startswith("some/manifest.json ")
    assert str(caught.value).endswith("export the bundle again")


def test_an_int8_file_cannot_take_normalized_pixels() -> None:
    tree = {**VALID, "input": {**VALID["input"], "mean": [1, 2, 3], "std": [1, 2, 3]}}
    with pytest.raises(BundleError, match="takes int8, but mean and std make float32 pixels"):
        decode_manifest(json.dumps(tree).encode())


@pytest.mark.parametrize("std", [[1, 0, 1], [1, -1, 1]])
def test_std_must_be_above_0(std: list[float]) -> None:
    tree = {**VALID, "input": {**VALID["input"], "mean": [1, 2, 3], "std": std}}
    with pytest.raises(BundleError, match="std must be above 0"):
        decode_manifest(json.dumps(tree).encode())


@pytest.mark.parametrize("optional", ["golden", "files.0.input.quantization"])
def test_what_may_be_left_out(optional: str) -> None:
    tree = json.loads(changed(optional, None))
    tree["files"][0]["input"]["dtype"] = "float32" if "quantization" in optional else "int8"
    assert isinstance(decode_manifest(json.dumps(tree).encode()), Manifest)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut short"),
        pytest.param(json.dumps(VALID).encode()[:-40], id="last bytes missing"),
        pytest.param(b"\xff\xfe{}", id="another encoding"),
        pytest.param(b"[" * 100_000, id="nested without end"),
        pytest.param(b'{"format": ' + b"9" * 5000 + b"}", id="huge integer"),
        pytest.param(b'{"format": 1e999}', id="huge float"),
        pytest.param(b"\0" * 100, id="zeros"),
    ],
)
def test_what_is_not_json(data: bytes) -> None:
    with pytest.raises(BundleError, match="is not JSON"):
        decode_manifest(data)


@given(st.binary(max_size=400))
def test_arbitrary_bytes_raise_nothing_but_bundle_errors(data: bytes) -> None:
    with pytest.raises(BundleError):
        decode_manifest(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def every_path(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path] * bool(path) + [below for key, child in pairs for below in every_path(child, (*path, key))]


@given(st.sampled_from(every_path(VALID)), JSON)
@settings(max_examples=300)
def test_any_value_anywhere_is_taken_or_refused_with_a_bundle_error(path: tuple[Any, ...], value: Any) -> None:
    tree: Any = copy.deepcopy(VALID)
    node = tree
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    try:
        manifest = decode_manifest(json.dumps(tree).encode())
    except BundleError:
        return
    assert decode_manifest(json.dumps(tree).encode()) == manifest


@given(JSON)
def test_any_json_as_the_whole_raises_nothing_but_bundle_errors(value: Any) -> None:
    with pytest.raises(BundleError):
        decode_manifest(json.dumps(value).encode())


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BundleError, match=r"is not a bundle: it has no manifest.json; make one with: edgedistill export RUN"):
            load(path)


def test_a_file_in_the_bundles_place(folder: Path) -> None:
    with pytest.raises(BundleError, match="is not a bundle"):
        load(folder / "golden.npz")


def test_a_folder_in_the_manifests_place(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).mkdir()
    with pytest.raises(BundleError, match="is not a bundle"):
        load(tmp_path)


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000])
def test_paths_that_no_system_takes(path: str) -> None:
    with pytest.raises(BundleError, match="cannot be read"):
        load(path)


@pytest.mark.parametrize("name", ["model-int8.tflite", "golden.npz"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"lacks {name}, which its manifest names; copy the whole folder"):
        load(folder, verify=False)


def damage_bit(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("model-int8.tflite", damage_bit, "has checksum"),
        ("model-int8.tflite", lambda data: data[:-1], "has 19 bytes, the manifest says 20"),
        ("model-int8.tflite", lambda data: data + b"x", "has 21 bytes, the manifest says 20"),
        ("golden.npz", damage_bit, "has checksum"),
        ("golden.npz", lambda data: data[:-1], "has checksum"),
    ],
)
def test_changed_files_are_found(folder: Path, name: str, damage: Callable[[bytes], bytes], said: str) -> None:
    file = folder / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(BundleError, match=f"{name} {said}.*: the file was changed or cut short; copy it again"):
        load(folder)
    assert load(folder, verify=False).path == folder


def test_size_and_checksum_must_both_fit(folder: Path) -> None:
    (folder / MANIFEST_NAME).write_bytes(changed("files.0.bytes", len(MODEL) + 1))
    with pytest.raises(BundleError, match="has 20 bytes, the manifest says 21"):
        load(folder)


ESCAPES = ["../secret", "a/../../secret", "/etc/passwd", "..", "sub/..", "..\\secret", "C:\\secret", "model\0.tflite"]


@pytest.mark.parametrize("name", ESCAPES)
def test_a_name_that_leaves_the_folder(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_bytes(MODEL)
    (folder / MANIFEST_NAME).write_bytes(changed("files.0.file", name))
    with pytest.raises(BundleError, match="leaves the bundle's folder"):
        load(folder, verify=False)
    with pytest.raises(BundleError, match="leaves the bundle's folder"):
        inside(folder, name)


@pytest.mark.parametrize("name", ["model-int8.tflite", "golden.npz"])
def test_a_link_out_of_the_folder(folder: Path, name: str) -> None:
    """The file behind the link has the right content: only its place is wrong."""
    outside = folder.parent / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    with pytest.raises(BundleError, match=f"{name}' is a link that leaves the bundle's folder"):
        load(folder)


def test_a_linked_folder_out_of_the_folder(folder: Path) -> None:
    (folder / "sub").symlink_to(folder.parent)
    (folder.parent / "model.tflite").write_bytes(MODEL)
    (folder / MANIFEST_NAME).write_bytes(changed("files.0.file", "sub/model.tflite"))
    with pytest.raises(BundleError, match="is a link that leaves"):
        load(folder)


def test_links_and_folders_inside_are_fine(folder: Path, tmp_path: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "model-int8.tflite").rename(folder / "sub" / "real")
    (folder / "model-int8.tflite").symlink_to("sub/real")
    linked = tmp_path / "linked"
    linked.symlink_to(folder)
    assert load(folder).manifest == load(linked).manifest


def test_a_link_to_itself(folder: Path) -> None:
    (folder / "golden.npz").unlink()
    (folder / "golden.npz").symlink_to("golden.npz")
    with pytest.raises(BundleError, match=r"golden\.npz"):
        load(folder)


@pytest.mark.parametrize("name", ["x" * 300, "model-int8.tflite/below", "."])
def test_names_that_no_file_can_have(folder: Path, name: str) -> None:
    (folder / MANIFEST_NAME).write_bytes(changed("files.0.file", name))
    with pytest.raises(BundleError, match=r"lacks|cannot be read"):
        load(folder)


@given(st.text(min_size=1, max_size=20, alphabet="./\\a\0é~ "))
def test_inside_never_leaves(name: str) -> None:
    root = Path("/some/folder")
    try:
        path = inside(root, name)
    except BundleError:
        return
    assert Path(os.path.normpath(path)).is_relative_to(root)


def test_sha256_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "abc"
    file.write_bytes(b"abc")
    assert sha256_of(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_writing_makes_folders_and_leaves_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file"
    write_atomically(file, b"one")
    write_atomically(file, b"two")
    assert file.read_bytes() == b"two"
    assert os.listdir(file.parent) == ["file"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    write_atomically(file, b"old")

    def full_disk(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(bundle.os, "replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
