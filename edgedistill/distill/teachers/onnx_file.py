"""`onnx:FILE`: a teacher that onnxruntime runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedistill.distill.teachers.file_teacher import Runner, open_file
from edgedistill.distill.teachers.files import existing, manifest_of
from edgedistill.distill.teachers.opening import Opened, Opening
from edgedistill.distill.teachers.tensor_input import Found, input_of
from edgedistill.errors import MissingExtraError, ModelError

DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int8)": "int8"}
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


def open_onnx(opening: Opening) -> Opened:
    """Open an ONNX file with one image input and one output of logits or probabilities."""
    spec = opening.spec
    path = existing(Path(opening.argument), spec)
    session = _session(path)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if (len(inputs), len(outputs)) != (1, 1):
        raise ModelError(f"the teacher {spec.model} has {len(inputs)} inputs and {len(outputs)} outputs; a classifier has one of each")
    bundled = manifest_of(path)
    quantization = bundled[1].input.quantization if bundled is not None else None
    found = Found(inputs[0].shape, DTYPES.get(inputs[0].type, inputs[0].type), quantization)
    manifest = bundled[0] if bundled is not None else None
    fixed = inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else None

    stored = bundled[1].output.quantization if bundled is not None else None

    def run(array: np.ndarray) -> np.ndarray:
        (answers,) = session.run(None, {inputs[0].name: array})
        return np.asarray(answers) if stored is None else (answers.astype(np.float32) - stored.zero_point) * stored.scale

    return open_file(opening, Runner("onnx", run, fixed), tensor=input_of(found, spec, manifest), manifest=manifest)


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnx") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    providers = [name for name in PROVIDERS if name in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime raises many classes of its own, some straight from Exception
        raise ModelError(
            f"onnxruntime {onnxruntime.__version__} refuses {path}: {error}; update onnxruntime, or export the file anew"
        ) from error
