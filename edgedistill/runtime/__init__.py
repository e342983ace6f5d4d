"""What runs on the device: engines, sources, the camera loop, profiling, self-check.

Needs numpy, OpenCV, msgspec and one interpreter; never imports torch, onnx, tensorflow or click. Also a command:
`python -m edgedistill.runtime camera|profile|selfcheck|info BUNDLE`.
"""

from edgedistill.runtime.engines import Engine, open_engine, predict_logits

__all__ = ["Engine", "open_engine", "predict_logits"]
