"""The loop of TensorFlow's Raspberry Pi sample for image classification, written anew after what it does.

Read, resize, one more dimension, `set_tensor`, `invoke`, `get_tensor`, dequantize, sort: one after the other in one thread. In its
favour, its window, its mirroring and its drawing are left out, and it gets RGB, which the sample forgets.
"""

from __future__ import annotations

from importlib.metadata import version

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from given import given
from measured import Measured

arguments = given()
found = Measured(stamped=arguments.stamped, seconds=arguments.seconds)
interpreter = Interpreter(model_path=arguments.model, num_threads=1)
interpreter.allocate_tensors()
input_details, output_details = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
_, height, width, _ = input_details["shape"]
scale, zero_point = output_details["quantization"]

capture = cv2.VideoCapture(arguments.source)
while capture.isOpened() and not found.over:
    good, frame_bgr = capture.read()
    if not good:
        break
    pixels = cv2.cvtColor(cv2.resize(frame_bgr, (width, height)), cv2.COLOR_BGR2RGB)
    interpreter.set_tensor(input_details["index"], np.expand_dims(pixels, axis=0).astype(input_details["dtype"]))
    interpreter.invoke()
    scores = np.squeeze(interpreter.get_tensor(output_details["index"]))
    if scale:
        scores = scale * (scores.astype(np.float32) - zero_point)
    best = sorted(range(len(scores)), key=lambda index: scores[index], reverse=True)[:3]
    found.result(frame_bgr)
capture.release()
found.tell(version=f"ai-edge-litert {version('ai-edge-litert')}")
