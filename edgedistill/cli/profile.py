"""`edgedistill profile`: latency by stage, memory, start-up time, and the conditions they were measured under."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from edgedistill.cli.engine_options import engine_options


@click.command("profile", epilog="Example: edgedistill profile runs/demo/bundle --file tflite-int8 --threads auto")
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@engine_options
@click.option("--runs", type=click.IntRange(min=1), default=200, show_default=True, help="Measured frames.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def command(bundle: Path, file: str | None, engine: str | None, threads: int | Literal["auto"] | None, runs: int, *, as_json: bool) -> int:
    """Measure a model file on 640x480 frames: capture, preprocess, invoke, postprocess and total, warm-up left out."""
    from edgedistill.runtime.commands import profile_command
    from edgedistill.runtime.profile import ProfileOptions

    return profile_command(bundle, ProfileOptions(file=file, engine=engine, threads=threads, runs=runs), as_json=as_json)
