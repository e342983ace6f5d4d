"""`edgedistill profile`: latency by stage, memory, start-up time, and the conditions they were measured under."""

from __future__ import annotations

from edgedistill.cli.passed_on import passed_on

command = passed_on(
    "profile", "Measure a model file on 640x480 frames: capture, preprocess, invoke, postprocess and total, warm-up left out."
)
