"""The self-check: silent where all is well, and loud where an answer, a golden pair or an interpreter is wrong."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
import tiny_bundle

from edgedistill import bundle
from edgedistill.bundle import Bundle, ModelFile
from edgedistill.errors import BundleError
from edgedistill.runtime import engines, predict_logits
from edgedistill.runtime.selfcheck import allowed, golden_pair, selfcheck

FP32, INT8 = "tiny-fp32.tflite", "tiny-int8.tflite"


def test_a_good_bundle_passes_on_every_file(bundle_path: Path) -> None:
    checks = selfcheck(bundle_path)
    assert [(check.file, check.state, check.agreement) for check in checks] == [(file, "ok", 1.0) for file in tiny_bundle.FILES]
    assert all(check.difference <= check.budget and check.note == "" for check in checks)  # type: ignore[operator]


@pytest.mark.parametrize("file", ["tflite-int8", "tiny-int8.tflite"])
def test_one_file_is_checked_alone(bundle_path: Path, file: str) -> None:
    assert [check.file for check in selfcheck(bundle_path, file=file)] == ["tiny-int8.tflite"]


def spoiled(path: Path, file: str, change: object) -> Bundle:
    """Change the expected logits of one file, and return the bundle."""
    loaded = bundle.load(path)
    frames_bgr, expected = golden_pair(loaded)
    expected[file] = change(expected[file])  # type: ignore[operator]
    tiny_bundle.save_golden(loaded, frames_bgr, expected)
    return bundle.load(path)


def shifted(logits: np.ndarray, *, by: float) -> np.ndarray:
    """Return logits of the same classes, all off by a constant."""
    return (logits + by).astype(np.float32)


def reversed_classes(logits: np.ndarray) -> np.ndarray:
    return logits[:, ::-1].copy()


@pytest.mark.parametrize(
    ("file", "change", "state"),
    [
        (FP32, lambda logits: shifted(logits, by=1e-3), "ok"),
        (FP32, lambda logits: shifted(logits, by=0.05), "failed"),
        (FP32, reversed_classes, "failed"),
        (INT8, lambda logits: shifted(logits, by=0.05), "ok"),
        (INT8, lambda logits: shifted(logits, by=5.0), "ok"),
        (INT8, reversed_classes, "failed"),
    ],
)
def test_the_budgets(own_bundle: Path, file: str, change: object, state: str) -> None:
    found = {check.file: check for check in selfcheck(spoiled(own_bundle, file, change))}
    assert found.pop(file).state == state
    assert {check.state for check in found.values()} == {"ok"}


@pytest.mark.parametrize(("steps", "state"), [(2.5, "ok"), (3.5, "failed")])
def test_int8_may_name_another_class_within_three_steps(own_bundle: Path, steps: float, state: str) -> None:
    loaded = bundle.load(own_bundle)
    yellow = np.full((1, 48, 64, 3), (0, 255, 248), np.uint8)
    found = predict_logits(loaded, yellow, file=INT8)
    assert round((found[0, 1] - found[0, 0]) / tiny_bundle.OUTPUT_STEP) == 2, "green leads red by two steps"
    expected = found + np.array([steps * tiny_bundle.OUTPUT_STEP, 0, 0], np.float32)
    tiny_bundle.save_golden(loaded, yellow, {INT8: expected})
    check = selfcheck(own_bundle, file=INT8)[0]
    assert (check.state, check.agreement) == (state, 0.0)


def test_answers_that_are_no_numbers_fail(own_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgedistill.runtime import selfcheck as module

    loaded = bundle.load(own_bundle)
    _, expected = golden_pair(loaded)
    monkeypatch.setattr(module, "predict_logits", lambda bundle, frames, file: np.where([True, False, False], expected[file], np.nan))
    assert {check.state for check in selfcheck(loaded)} == {"failed"}


def test_a_file_that_answers_zeros_fails(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgedistill.runtime import selfcheck as module

    monkeypatch.setattr(module, "predict_logits", lambda bundle, frames, file: np.zeros((len(frames), 3), np.float32))
    checks = selfcheck(bundle_path)
    assert {check.state for check in checks} == {"failed"}
    assert "update it" in checks[0].note


@pytest.mark.parametrize(
    ("installed", "states"),
    [
        ({"litert": "2.3.0"}, ["ok", "ok", "skipped"]),
        ({"onnxruntime": "1.32.0"}, ["skipped", "skipped", "ok"]),
        ({}, ["skipped", "skipped", "skipped"]),
    ],
)
def test_files_without_an_interpreter_are_skipped(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], states: list[str]
) -> None:
    monkeypatch.setattr(engines, "installed_engines", lambda: installed)
    checks = selfcheck(bundle_path)
    assert [check.state for check in checks] == states
    assert all(("pip install 'edgedistill[" in check.note) == (check.state == "skipped") for check in checks)


def test_files_that_the_interpreter_is_too_old_for_are_skipped(bundle_path: Path) -> None:
    loaded = bundle.load(bundle_path)
    files = [
        msgspec.structs.replace(entry, minimum_runtime="litert>=9.0") if entry.file == INT8 else entry for entry in loaded.manifest.files
    ]
    checks = {check.file: check for check in selfcheck(Bundle(loaded.path, msgspec.structs.replace(loaded.manifest, files=files)))}
    assert "needs litert>=9.0" in checks[INT8].note
    assert [check.state for check in checks.values()] == ["skipped", "ok", "ok"]


def test_what_is_allowed(bundle_path: Path) -> None:
    loaded = bundle.load(bundle_path)
    golden = np.array([[-2.0, 4.0, 1.0]], np.float32)
    assert allowed(loaded.model(FP32), golden) == pytest.approx(0.004)
    assert allowed(loaded.model(INT8), golden) == pytest.approx(3 * tiny_bundle.OUTPUT_STEP)
    float_output: ModelFile = msgspec.structs.replace(loaded.model(FP32), precision="int8")
    assert allowed(float_output, golden) == pytest.approx(3 * 6 / 255)
    half: ModelFile = msgspec.structs.replace(loaded.model(FP32), precision="fp16")
    assert allowed(half, golden) == pytest.approx(0.08)


def rewrite(path: Path, **arrays: np.ndarray) -> None:
    loaded = bundle.load(path)
    tiny_bundle.save_golden(loaded, arrays.pop("frames_bgr"), {name.removeprefix("logits/"): value for name, value in arrays.items()})


NO_FRAMES = np.zeros((0, 48, 64, 3), np.uint8)
ONE_FRAME = np.zeros((1, 48, 64, 3), np.uint8)


@pytest.mark.parametrize(
    ("frames_bgr", "logits", "message"),
    [
        (NO_FRAMES, np.zeros((0, 3), np.float32), "expected"),
        (np.zeros((4, 4), np.uint8), np.zeros((1, 3), np.float32), "expected"),
        (ONE_FRAME[..., :1], np.zeros((1, 3), np.float32), r"frames of shape \(1, 48, 64, 1\) and uint8, expected \(N, H, W, 3\)"),
        (ONE_FRAME.astype(np.float32), np.zeros((1, 3), np.float32), "and float32, expected"),
        (ONE_FRAME, np.full((1, 3), "x"), "logits for tiny-int8.tflite that are <U1, expected floats"),
        (ONE_FRAME, np.zeros((2, 3), np.float32), "no logits for tiny-int8.tflite that fit"),
        (ONE_FRAME, np.zeros((1, 4), np.float32), "no logits for tiny-int8.tflite that fit"),
    ],
)
def test_a_golden_pair_that_does_not_fit(own_bundle: Path, frames_bgr: np.ndarray, logits: np.ndarray, message: str) -> None:
    rewrite(own_bundle, frames_bgr=frames_bgr, **{f"logits/{file}": logits for file in tiny_bundle.FILES})
    with pytest.raises(BundleError, match=message):
        selfcheck(own_bundle)


def test_a_golden_pair_without_a_files_logits(own_bundle: Path) -> None:
    rewrite(own_bundle, frames_bgr=ONE_FRAME)
    with pytest.raises(BundleError, match="no logits for tiny-int8"):
        selfcheck(own_bundle)


def test_a_bundle_without_a_golden_pair(bundle_path: Path) -> None:
    loaded = bundle.load(bundle_path)
    without = Bundle(loaded.path, msgspec.structs.replace(loaded.manifest, golden=None))
    with pytest.raises(BundleError, match="has no golden pair"):
        selfcheck(without)


def stored(content: bytes, *, flags: int = 0, method: int = 0) -> bytes:
    """Return an npz file whose frames are a member with this content, general flags and method of compression."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("frames_bgr.npy", content)
    data = bytearray(stream.getvalue())
    for place in (data.find(b"PK\x03\x04") + 6, data.find(b"PK\x01\x02") + 8):
        struct.pack_into("<HH", data, place, flags, method)
    return bytes(data)


def lone(values: np.ndarray, *, change: tuple[bytes, bytes] = (b"", b"")) -> bytes:
    """Return an array as a file, with something in it replaced."""
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue().replace(*change) if change[0] else stream.getvalue()


NONE = {
    "empty": b"",
    "text": b"not a zip",
    "cut": b"PK\x03\x04 cut short",
    "a lone array": lone(ONE_FRAME),
    "no array in it": stored(b"text"),
    "a cipher": stored(lone(ONE_FRAME), flags=1),
    "an unknown method": stored(lone(ONE_FRAME), method=99),
    "not what it was compressed to": stored(b"not deflated", method=8),
    "a header that is not closed": stored(lone(ONE_FRAME, change=(b"(1, 48", b"[[[[["))),
    "a shape beyond all memory": stored(lone(ONE_FRAME, change=(b"(1, 48, 64, 3), }          ", b"(99999999, 99999999, 9,3),}"))),
}


@pytest.mark.parametrize("content", NONE.values(), ids=NONE)
def test_a_golden_pair_that_is_none(own_bundle: Path, content: bytes) -> None:
    loaded = bundle.load(own_bundle)
    (own_bundle / "golden.npz").write_bytes(content)
    with pytest.raises(BundleError, match="is no golden pair"):
        selfcheck(loaded)


def test_a_golden_pair_never_unpickles(own_bundle: Path) -> None:
    loaded = bundle.load(own_bundle)
    np.savez(own_bundle / "golden.npz", frames_bgr=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BundleError, match="is no golden pair"):
        selfcheck(loaded)
