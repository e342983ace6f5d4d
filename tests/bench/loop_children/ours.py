"""edgedistill's `camera` command, whole, with results as JSON lines to nowhere; its monitor counts on the side."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from given import given
from measured import Measured

arguments = given()
found = Measured(stamped=arguments.stamped, seconds=arguments.seconds)

from edgedistill.runtime import camera_command  # noqa: E402
from edgedistill.runtime.camera import LoopOptions  # noqa: E402


class Counting(camera_command.Monitor):
    """The monitor of the run, that tells of each result here too."""

    def add(self, frame: Any, result: Any) -> None:
        super().add(frame, result)
        found.result(frame.frame_bgr, inference_ms=result.stages_ms["invoke"])


camera_command.Monitor = Counting
os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
options = camera_command.CameraOptions(
    sources=(arguments.source,),
    file=Path(arguments.model).name,
    threads=1,
    output="jsonl",
    loop=LoopOptions(duration_s=None if arguments.seconds == float("inf") else arguments.seconds + 3),
)
camera_command.camera_command(Path(arguments.bundle), options)
found.tell(version=version("edgedistill"))
