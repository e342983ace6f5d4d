"""Does a bundle answer on this machine as it did where it was made? Its golden frames through preprocessing and engines.

The budgets: fp32 files may differ by 0.1 % of the largest logit and must name the same classes; fp16 files by 2 %, since some
machines compute them in 16 bits. int8 files must name the same classes, or stay within three steps of the output's
quantization: kernels of different machines round differently.
"""

from __future__ import annotations

import io
import zipfile
from typing import Literal, NamedTuple

import numpy as np

from edgedistill.bundle import Bundle, ModelFile
from edgedistill.errors import BundleError, EngineError, MissingExtraError
from edgedistill.runtime.engines import ENGINES, BundleOrPath, as_bundle, check_version, choose, predict_logits, version_of

TOLERANCES = {"fp32": 1e-3, "fp16": 2e-2}
INT8_STEPS = 3


class Check(NamedTuple):
    """The verdict on one file.

    Args:
        state: `ok`, `failed`, or `skipped` where no interpreter for it is installed, or too old a one.
        agreement: fraction of golden frames with the expected class; None if skipped.
        difference: largest difference of a logit.
        budget: the difference that is allowed.
        note: why it was skipped, or what to do.
    """

    file: str
    state: Literal["ok", "failed", "skipped"]
    agreement: float | None = None
    difference: float | None = None
    budget: float | None = None
    note: str = ""


def selfcheck(bundle: BundleOrPath, *, file: str | None = None) -> list[Check]:
    """Return the verdict on each model file, or on one."""
    loaded = as_bundle(bundle)
    frames_bgr, expected = golden_pair(loaded)
    models = [loaded.model(file)] if file is not None else loaded.manifest.files
    return [check(loaded, model, frames_bgr, expected=expected) for model in models]


def check(bundle: Bundle, model: ModelFile, frames_bgr: np.ndarray, *, expected: dict[str, np.ndarray]) -> Check:
    """Run the golden frames through one file and compare with its expected logits.

    Args:
        frames_bgr: (N, H, W, 3) uint8.
        expected: (N, classes) float32 by file name.
    """
    golden = expected.get(model.file)
    if golden is None or golden.shape != (len(frames_bgr), len(bundle.manifest.labels)):
        raise BundleError(f"{bundle.path}: the golden pair has no logits for {model.file} that fit; export the bundle again")
    try:
        _, name = choose(bundle, model.file)
        check_version(model, name, version=version_of(ENGINES[name]))
    except (MissingExtraError, EngineError) as error:
        return Check(model.file, "skipped", note=str(error))
    found = predict_logits(bundle, frames_bgr, file=model.file)
    same = found.argmax(axis=1) == golden.argmax(axis=1)
    difference, budget = float(np.abs(found - golden).max()), allowed(model, golden)
    close, same_classes, finite = difference <= budget, bool(same.all()), bool(np.isfinite(found).all())
    good = finite and ((same_classes and close) if model.precision in TOLERANCES else (same_classes or close))
    note = "" if good else "this interpreter computes something else than the one the bundle was made with: update it, or use another file"
    return Check(model.file, "ok" if good else "failed", float(same.mean()), difference, budget, note)


def allowed(model: ModelFile, golden: np.ndarray) -> float:
    """Return the largest difference of a logit that is allowed; where an int8 file's output is float, its step is 1/255 of the range."""
    if model.precision in TOLERANCES:
        return TOLERANCES[model.precision] * float(np.abs(golden).max())
    quantization = model.output.quantization
    return INT8_STEPS * (quantization.scale if quantization is not None else float(np.ptp(golden)) / 255)


def golden_pair(bundle: Bundle) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return a bundle's golden frames (N, H, W, 3) uint8 BGR, and its expected logits (N, classes) by file name."""
    if bundle.manifest.golden is None:
        raise BundleError(f"{bundle.path} has no golden pair to check against; export it again")
    path = bundle.file_path(bundle.manifest.golden.file)
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:  # np.load would take a lone array, too
            frames_bgr = _array(archive, "frames_bgr")
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            expected = {name.removeprefix("logits/"): _array(archive, name) for name in names if name.startswith("logits/")}
    except Exception as error:  # zipfile, zlib and numpy's reader of headers raise a dozen classes, some straight from Exception
        raise BundleError(f"{path} is no golden pair: {error}; copy the bundle again, or export it again") from error
    if frames_bgr.ndim != 4 or frames_bgr.size == 0 or frames_bgr.shape[3] != 3 or frames_bgr.dtype != np.uint8:
        raise BundleError(
            f"{path} has frames of shape {frames_bgr.shape} and {frames_bgr.dtype}, expected (N, H, W, 3) of uint8 with N of 1 or more; "
            "export the bundle again"
        )
    if unfit := [name for name, logits in expected.items() if not np.issubdtype(logits.dtype, np.floating)]:
        raise BundleError(f"{path} has logits for {unfit[0]} that are {expected[unfit[0]].dtype}, expected floats; export the bundle again")
    return frames_bgr, expected


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Return an array of an npz file."""
    found: np.ndarray = np.lib.format.read_array(io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False)
    return found
