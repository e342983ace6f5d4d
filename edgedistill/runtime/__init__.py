"""What runs on the device: engines, sources, the camera loop, what takes its results, profiling, self-check.

Needs numpy, OpenCV, msgspec and one interpreter, for MQTT and metrics the extra `iot` too; never imports torch, onnx, tensorflow or
click. Also a command: `python -m edgedistill.runtime camera|profile|compare-engines|selfcheck|info BUNDLE`.

- from a file of a bundle to answers: `engines` (`tflite`, `ort`), `camera` (the loop), `selfcheck`, `profile`, `compare_engines`
- frames: `sources` chooses among the kinds of captures (`cameras`, `picamera`, `http_camera`, `gstreamer`, `files`, `raw_frames`,
  `pattern`); `frames` is what all share, `ending` reads what ends, `live` what is opened again, `turns` several in turn, and in their
  threads `ahead` preprocesses
- how a run is: `status`, `monitor`, `quality`, `reporter`; how the machine is: `conditions`, `firmware`, `energy`
- what takes results, each behind a thread of its own (`output`): `outputs`, `recording`, `mqtt`; beside them `serve` and `notify`
- the command line: `commands`, `camera_flags`, `camera_command`
"""

from edgedistill.runtime.camera import Classifier, LoopOptions, Result, run
from edgedistill.runtime.engines import ENGINES, Engine, open_engine, predict_logits
from edgedistill.runtime.frames import Frame, Source
from edgedistill.runtime.results import ResultLine, read_results
from edgedistill.runtime.sources import SOURCES, open_source

__all__ = [
    "ENGINES",
    "SOURCES",
    "Classifier",
    "Engine",
    "Frame",
    "LoopOptions",
    "Result",
    "ResultLine",
    "Source",
    "open_engine",
    "open_source",
    "predict_logits",
    "read_results",
    "run",
]
