"""ultralytics' `predict` as a stream, on the same network as an ONNX file with the metadata that it asks for."""

from __future__ import annotations

from importlib.metadata import version

from given import given
from measured import Measured
from ultralytics import YOLO

arguments = given()
found = Measured(stamped=arguments.stamped, seconds=arguments.seconds)
model = YOLO(arguments.model, task="classify")
for result in model.predict(arguments.source, stream=True, verbose=False, device="cpu"):
    _ = result.probs.top1
    found.result(result.orig_img)
    if found.over:
        break
found.tell(version=f"ultralytics {version('ultralytics')}")
