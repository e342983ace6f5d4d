"""What runs on the device: engines, sources, the camera loop, profiling, self-check.

Needs numpy, OpenCV, msgspec and one interpreter; never imports torch, onnx, tensorflow or click. Also a command:
`python -m edgedistill.runtime camera|profile|selfcheck|info BUNDLE`.
"""

from edgedistill.runtime.camera import Classifier, LoopOptions, Result, run
from edgedistill.runtime.engines import ENGINES, Engine, open_engine, predict_logits
from edgedistill.runtime.frames import Frame, Source
from edgedistill.runtime.sources import SOURCES, open_source

__all__ = [
    "ENGINES",
    "SOURCES",
    "Classifier",
    "Engine",
    "Frame",
    "LoopOptions",
    "Result",
    "Source",
    "open_engine",
    "open_source",
    "predict_logits",
    "run",
]
