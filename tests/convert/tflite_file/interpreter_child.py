"""Run by the Python of another environment: what an interpreter that is not ours makes of a TFLite file, as JSON on stdout.

    python interpreter_child.py tensorflow|tflite_runtime|mediapipe MODEL IMAGES.npz [MODEL IMAGES.npz ...]

One answer a model. IMAGES holds `inputs` (N, H, W, 3), as the file takes them, or for MediaPipe uint8 RGB pixels. An answer has
`scores` (N, classes) by the order of the file's output, or MediaPipe's `labels` and `scores` of the likeliest class; or the
`refusal` in words.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np


def interpreted(interpreter: Any, inputs: np.ndarray) -> dict[str, Any]:
    """Run an interpreter of TFLite's own interface."""
    interpreter.allocate_tensors()
    image, scores = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rows = []
    for one in inputs:
        interpreter.set_tensor(image["index"], one[np.newaxis])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(scores["index"])[0].tolist())
    return {"scores": rows}


def tensorflow(model: str, inputs: np.ndarray) -> dict[str, Any]:
    """Run TensorFlow's interpreter."""
    import tensorflow

    return interpreted(tensorflow.lite.Interpreter(model_path=model, num_threads=1), inputs)


def tflite_runtime(model: str, inputs: np.ndarray) -> dict[str, Any]:
    """Run the old runtime's interpreter."""
    from tflite_runtime.interpreter import Interpreter

    try:
        return interpreted(Interpreter(model_path=model, num_threads=1), inputs)
    except (ValueError, RuntimeError) as error:
        return {"refusal": str(error)}


def mediapipe(model: str, inputs: np.ndarray) -> dict[str, Any]:
    """Run MediaPipe's image classifier, which reads metadata and labels from the file."""
    import mediapipe
    from mediapipe.tasks.python import vision
    from mediapipe.tasks.python.core.base_options import BaseOptions

    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=model), max_results=1)
    with vision.ImageClassifier.create_from_options(options) as classifier:
        images = [mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(one)) for one in inputs]
        best = [classifier.classify(image).classifications[0].categories[0] for image in images]
    return {"labels": [one.category_name for one in best], "scores": [one.score for one in best]}


if __name__ == "__main__":
    name, *files = sys.argv[1:]
    run = {"tensorflow": tensorflow, "tflite_runtime": tflite_runtime, "mediapipe": mediapipe}[name]
    answers = [run(path, np.load(images)["inputs"]) for path, images in zip(files[::2], files[1::2], strict=True)]
    print(json.dumps({"answers": answers}))
