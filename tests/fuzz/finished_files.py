"""Files as the project writes them, for fuzzing to begin from."""

from __future__ import annotations

import cv2
import numpy as np
import tiny_bundle
from fuzz_target import file_of, folder

from edgedistill.bundle import Preprocess, Tensor
from edgedistill.convert import onnx_file
from edgedistill.convert.facts import FileFacts
from edgedistill.convert.tflite_file import finish, labels, metadata
from edgedistill.runtime.recording.clip import Clip, Note
from edgedistill.runtime.recording.events import Picture

FACTS = FileFacts(
    name="tiny",
    description="Tells colours apart",
    author="somebody",
    licence="CC0-1.0",
    labels=tuple(tiny_bundle.LABELS),
    spec=Preprocess(height=tiny_bundle.HEIGHT, width=tiny_bundle.WIDTH),
    pixel_mean=0,
    scores="logits",
)


def tiny() -> tuple[bytes, ...]:
    """Return the tiny TFLite files, and one that is finished: with metadata, labels and versions."""
    plain = [(tiny_bundle.DATA / f"tiny-{kind}.tflite").read_bytes() for kind in ("fp32", "int8")]
    path = file_of("finished.tflite", plain[0])
    finish(path, FACTS)
    return (*plain, path.read_bytes())


def described() -> tuple[bytes, ...]:
    """Return metadata of a classifier."""
    shape = [1, tiny_bundle.HEIGHT, tiny_bundle.WIDTH, 3]
    image = Tensor(name="pixels", shape=shape, dtype="float32", layout="NHWC")
    scores = Tensor(name="logits", shape=[1, 3], dtype="float32", layout="NC")
    return (metadata.encode(FACTS, image, scores),)


def labelled() -> tuple[bytes, ...]:
    """Return the shortest model with labels behind it."""
    return (labels.append(b"TFL3" * 4, tiny_bundle.LABELS),)


def onnx_with_facts() -> bytes:
    """Return an ONNX file that says what it is."""
    path = file_of("finished.onnx", tiny_bundle.onnx_model())
    onnx_file.finish(path, FACTS)
    return path.read_bytes()


def clips() -> tuple[bytes, ...]:
    """Return a clip in work, and one that is finished."""
    jpeg = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    made = Clip(folder() / "made.avi", Note(1.7e9, 0, "cam0", (8, 8)))
    for number in range(2):
        made.add(Picture(number / 10, 1.7e9 + number / 10, (8, 8), jpeg, 0.9, "cat"))
    in_work = made.work.read_bytes()
    made.finish()
    return in_work, made.target.read_bytes()
