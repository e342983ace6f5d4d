"""`edgedistill export`: a run in, a checked bundle out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgedistill.cli.output import emit_json, emit_table, note, progress_bars

_WAYS = ("auto", "qad", "static_int8", "static_int8_float_islands", "int16_activations", "weight_only_int8", "float16")


@click.command("export", epilog="Example: edgedistill export models/fashion-mnist-mobilenetv3 --out runs/bundle --int8 auto")
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the bundle; RUN/bundle by default.")
@click.option("--format", "formats", multiple=True, type=click.Choice(["onnx", "tflite"]), help="Only this format; may be repeated.")
@click.option(
    "--int8",
    is_flag=False,
    flag_value="auto",
    type=click.Choice(_WAYS),
    help="Also quantized files. auto: the first way that is right and fast; qad: by training with fake quantization; or one way by name.",
)
@click.option("--no-int8", is_flag=True, help="No quantized files.")
@click.option("--fp32/--no-fp32", default=None, help="Keep the fp32 files; they are made and compared in any case.")
@click.option("--target", help="What the files are to be fast on: arm, here, or a board's folder such as devices/rpi4; default: arm.")
@click.option("--strict/--no-strict", default=None, help="Fail where an int8 file is slower than fp32 here, or runs in several parts.")
@click.option("--softmax/--no-softmax", default=None, help="Give probabilities instead of logits.")
@click.option("--calibration", type=click.IntRange(min=16), help="Number of training images for the int8 ranges.")
@click.option("--ranges", type=click.Choice(["minmax", "percentile", "mse"]), help="How the int8 ranges are chosen.")
@click.option("--author", help="Who made the student, for the files' metadata.")
@click.option(
    "--writer", type=click.Choice(["litert-torch", "onnx2tf"]), default="litert-torch", show_default=True, help="What writes TFLite."
)
@click.option("--onnx2tf", envvar="EDGEDISTILL_ONNX2TF", type=click.Path(path_type=Path), help="Python of an environment that has onnx2tf.")
@click.option("--json", "as_json", is_flag=True, help="Write manifest, parity ladder, audits and attempts as one JSON object.")
def command(run_folder: Path, out: Path | None, writer: str, onnx2tf: Path | None, *, as_json: bool, **given: Any) -> None:
    """Export the student of RUN; fails, with a table, when a file does not answer like the student."""
    from edgedistill import pipeline

    if writer == "onnx2tf" and onnx2tf is None:
        raise click.UsageError("--writer onnx2tf needs --onnx2tf PYTHON, the Python of an environment in which onnx2tf is installed")
    folder = out or run_folder / "bundle"
    with progress_bars() as tell:
        exported = pipeline.export(
            run_folder, folder, changes=_changes(given), progress=tell, onnx2tf=onnx2tf if writer == "onnx2tf" else None
        )
    if as_json:
        emit_json(pipeline.exported_as_json(exported))
        return
    _show(exported, folder)


def _changes(given: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of the [export] table that were given."""
    formats, no_int8 = given.pop("formats"), given.pop("no_int8")
    if no_int8 and given["int8"] is not None:
        raise click.UsageError("--int8 and --no-int8 exclude each other")
    changes = given | {"formats": tuple(dict.fromkeys(formats)) or None, "int8": False if no_int8 else given["int8"]}
    return {key: value for key, value in changes.items() if value is not None}


def _show(exported: Any, folder: Path) -> None:
    from edgedistill.convert import report

    manifest = exported.bundle.manifest
    emit_table(report.HEADERS, report.rows(manifest.files), title=f"{folder}, {exported.rungs[0].images:,} test images")
    if len(exported.attempts) > 1:
        emit_table(report.TRIED, report.tried(exported.attempts), title="What was tried", numbers=False)
    for text in exported.notes:
        note(f"Note: {text}")
    slowest = sorted(exported.seconds.items(), key=lambda step: -step[1])
    note(f"Took {sum(exported.seconds.values()):.0f} s: " + ", ".join(f"{step} {seconds:.1f} s" for step, seconds in slowest[:8]))
    note(f"Try it: edgedistill camera {folder} --source test://")
