"""The interpreter alone, on one frame again and again: what no loop can beat."""

from __future__ import annotations

import time
from importlib.metadata import version

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from given import given
from measured import Measured

arguments = given()
found = Measured(stamped=False, seconds=min(arguments.seconds, 4.0))
interpreter = Interpreter(model_path=arguments.model, num_threads=1)
interpreter.allocate_tensors()
details = interpreter.get_input_details()[0]
pixels = np.random.default_rng(0).integers(0, 256, details["shape"])
interpreter.set_tensor(details["index"], pixels.astype(details["dtype"]))
while not found.over:
    start = time.perf_counter()
    interpreter.invoke()
    found.result(pixels, inference_ms=(time.perf_counter() - start) * 1e3)
found.tell(version=version("ai-edge-litert"))
