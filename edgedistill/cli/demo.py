"""`edgedistill demo`: the whole way on real images, in one command."""

from __future__ import annotations

from pathlib import Path

import click

from edgedistill.cli.output import emit_json, note, progress_bars


@click.command("demo", epilog="Example: edgedistill demo --out runs/demo")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/demo"), show_default=True, help="Folder for everything.")
@click.option("--data", metavar="FOLDER", help="A folder with class folders of images, instead of the shipped photographs.")
@click.option(
    "--train-teacher", is_flag=True, help="Train the teacher anew on the full set (about half an hour) instead of using the shipped one."
)
@click.option("--smoke", is_flag=True, help="A few batches only, to see that everything runs.")
@click.option("--json", "as_json", is_flag=True, help="Write results.json to stdout instead of the table.")
def command(out: Path, data: str | None, *, train_teacher: bool, smoke: bool, as_json: bool) -> None:
    """Distill, export, check, profile, run on a clip, and report; steps whose inputs have not changed are skipped."""
    from edgedistill.demo.steps import demo
    from edgedistill.demo.students import Demo
    from edgedistill.demo.summary import terminal_table

    source = f"folder:{Path(data).expanduser().resolve()}" if data else None
    with progress_bars() as tell:
        results = demo(Demo(out, source, train_teacher, smoke, note, tell))
    if as_json:
        emit_json(results)
        return
    from rich.console import Console

    Console().print(terminal_table(results))
    camera = results["camera"]
    seen = f"right on {camera['accuracy']:.1%} of {camera['frames']} frames"
    note(f"camera: {seen}, {camera['fps']:.0f} frames a second, {camera['dropped']} dropped")
    note(f"Everything is in {out}; open {out / 'report.html'}, watch {out / 'annotated.mp4'}")
