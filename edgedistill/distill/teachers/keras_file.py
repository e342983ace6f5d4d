"""`keras:FILE`: a teacher that Keras runs, a .keras or .h5 file or the folder of a SavedModel; needs the extra [tensorflow]."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.distill.teachers.file_teacher import Runner, open_file
from edgedistill.distill.teachers.files import existing
from edgedistill.distill.teachers.opening import Opened, Opening
from edgedistill.distill.teachers.tensor_input import Found, input_of
from edgedistill.errors import MissingExtraError, ModelError


def open_keras(opening: Opening) -> Opened:
    """Open a Keras model with one image input and one output of logits or probabilities."""
    spec = opening.spec
    path = existing(Path(opening.argument), spec)
    tensorflow = _tensorflow()
    try:
        found, run = _saved_model(tensorflow, path) if path.is_dir() else _keras(path)
    except ModelError:
        raise
    except Exception as error:  # what is wrong with a file comes in many classes, some of them of h5py
        raise ModelError(f"TensorFlow {tensorflow.__version__} cannot open {spec.model}: {error}; save the model anew") from error
    runner = Runner("keras", run, found.shape[0] if isinstance(found.shape[0], int) else None)
    return open_file(opening, runner, tensor=input_of(found, spec, None), manifest=None)


def _tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        tensorflow = importlib.import_module("tensorflow")
    except ImportError as error:
        raise MissingExtraError("tensorflow", "tensorflow") from error
    for card in tensorflow.config.list_physical_devices("GPU"):
        tensorflow.config.experimental.set_memory_growth(card, True)  # otherwise it takes all memory, the student's too
    return tensorflow


def _keras(path: Path) -> tuple[Found, Any]:
    model = importlib.import_module("keras").saving.load_model(path, compile=False)
    if (len(model.inputs), len(model.outputs)) != (1, 1):
        raise ModelError(
            f"the teacher {path} has {len(model.inputs)} inputs and {len(model.outputs)} outputs; a classifier has one of each"
        )
    return Found(tuple(model.inputs[0].shape), str(model.inputs[0].dtype)), lambda array: np.asarray(model(array, training=False))


def _saved_model(tensorflow: Any, path: Path) -> tuple[Found, Any]:
    loaded = tensorflow.saved_model.load(str(path))
    signature = loaded.signatures["serving_default"]
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    if (len(inputs), len(outputs)) != (1, 1):
        raise ModelError(f"the teacher {path} has {len(inputs)} inputs and {len(outputs)} outputs; a classifier has one of each")
    ((name, tensor),) = inputs.items()

    def run(array: np.ndarray, keep: Any = loaded) -> np.ndarray:  # the signature alone does not keep its variables alive
        (answers,) = signature(**{name: tensorflow.constant(array)}).values()
        return np.asarray(answers)

    return Found(tuple(tensor.shape), tensor.dtype.name), run
