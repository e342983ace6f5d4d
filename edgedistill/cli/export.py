"""`edgedistill export`: a run in, a checked bundle out."""

from __future__ import annotations

from pathlib import Path

import click

from edgedistill.cli.output import emit_json, emit_table, note, percent, progress_bars


@click.command("export", epilog="Example: edgedistill export runs/demo/distilled --out runs/demo/bundle --format tflite")
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the bundle; RUN/bundle by default.")
@click.option("--format", "formats", multiple=True, type=click.Choice(["onnx", "tflite"]), help="Only this format; may be repeated.")
@click.option("--int8/--no-int8", default=None, help="Also int8 files, calibrated on training images; by default as the recipe says.")
@click.option("--fp32/--no-fp32", default=None, help="Keep the fp32 files; they are made and compared in any case.")
@click.option("--calibration", type=click.IntRange(min=16), help="Number of training images for the int8 ranges.")
@click.option("--json", "as_json", is_flag=True, help="Write the manifest and the parity ladder as one JSON object.")
def command(
    run_folder: Path,
    out: Path | None,
    formats: tuple[str, ...],
    int8: bool | None,
    fp32: bool | None,
    calibration: int | None,
    *,
    as_json: bool,
) -> None:
    """Export the student of RUN; fails, with a table, when a file does not answer like the student."""
    from edgedistill import pipeline

    changes = {"formats": tuple(dict.fromkeys(formats)) or None, "int8": int8, "fp32": fp32, "calibration": calibration}
    folder = out or run_folder / "bundle"
    with progress_bars() as tell:
        exported = pipeline.export(run_folder, folder, changes={k: v for k, v in changes.items() if v is not None}, progress=tell)
    if as_json:
        emit_json(pipeline.exported_as_json(exported))
        return
    size = {model.file: f"{model.bytes / 1000:.0f} kB" for model in exported.bundle.manifest.files}
    rows = [
        [
            rung.file,
            size.get(rung.file, "left out"),
            percent(rung.accuracy),
            f"{rung.accuracy_delta * 100:+.2f} points",
            percent(rung.agreement),
            f"{rung.cosine:.5f}",
        ]
        for rung in exported.rungs
    ]
    headers = ["file", "size", "accuracy", "against torch", "same answers", "cosine"]
    emit_table(headers, rows, title=f"{folder}, {exported.rungs[0].images} test images")
    for text in exported.notes:
        note(f"Note: {text}")
    note(f"Try it: edgedistill camera {folder} --source test://")
