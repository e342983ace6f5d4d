"""`edgedistill camera`: the device's camera loop, on the workstation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgedistill.cli.engine_options import engine_options


@click.command("camera", epilog="Example: edgedistill camera runs/demo/bundle --source 0 --top-k 3 --save seen.mp4")
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option(
    "--source", default="0", show_default=True, help="0, /dev/video0, a video, folder or glob of images, http://, rtsp://, test://"
)
@engine_options
@click.option("--top-k", type=click.IntRange(min=1), default=1, show_default=True, metavar="K", help="Classes in a result.")
@click.option(
    "--threshold", type=click.FloatRange(0, 1), default=0.0, show_default=True, metavar="P", help="Smallest probability to report."
)
@click.option("--output", type=click.Choice(["text", "jsonl"]), default="text", show_default=True, help="Lines to read, or JSON objects.")
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE", help="Write the annotated video (.mp4 or .avi).")
@click.option("--show", is_flag=True, help="Show the annotated frames in a window; q ends.")
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), metavar="S", help="End after S seconds.")
@click.option("--frames", type=click.IntRange(min=1), metavar="N", help="End after N frames.")
def command(bundle: Path, *, duration: float | None, frames: int | None, **options: Any) -> int:
    """Run BUNDLE on a camera, a video or images; one line a result, a summary at the end. The first Ctrl-C ends it."""
    from edgedistill.runtime.camera import LoopOptions
    from edgedistill.runtime.commands import CameraOptions, camera_command

    if options["threads"] == "auto":
        raise click.UsageError("--threads auto is for profile: run it once, then give camera the number that it found")
    return camera_command(bundle, CameraOptions(**options, loop=LoopOptions(frames=frames, duration_s=duration)))
