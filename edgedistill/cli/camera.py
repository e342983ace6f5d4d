"""`edgedistill camera`: the device's camera loop, on the workstation."""

from __future__ import annotations

from edgedistill.cli.passed_on import passed_on

command = passed_on(
    "camera", "Run BUNDLE on cameras, a video or images; one line a result, a summary at the end. The first Ctrl-C ends it."
)
