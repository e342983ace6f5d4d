"""`edgedistill evaluate`: accuracy of a run's student in torch, or of a bundle's files through the device's runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgedistill.cli.output import emit_json, emit_table, percent, progress_bars


@click.command(
    "evaluate", epilog="Example: edgedistill evaluate runs/demo/bundle --data folder:my-photographs --corrupt blur=2 --corrupt dark=60"
)
@click.argument("target", metavar="RUN_OR_BUNDLE", type=click.Path(path_type=Path))
@click.option("--data", "source", metavar="SOURCE", help="embedded, torchvision:NAME or folder:PATH; by default what it was trained on.")
@click.option("--file", "file", metavar="FILE", help="Only this model file of the bundle, such as tflite-int8.")
@click.option(
    "--corrupt", "corrupt", multiple=True, metavar="NAME=PERCENT", help="Measure on worse images too: blur, dark or noise; may be repeated."
)
@click.option("--json", "as_json", is_flag=True, help="Write the results as one JSON object.")
def command(target: Path, source: str | None, file: str | None, corrupt: tuple[str, ...], *, as_json: bool) -> None:
    """Measure a run or every file of a bundle on test images."""
    from edgedistill import corruptions
    from edgedistill.evaluation import evaluate

    wanted = [corruptions.parse(text) for text in corrupt]
    with progress_bars() as tell:
        results = evaluate(target, source=source, file=file, progress=tell, corruptions=wanted)
    if as_json:
        emit_json(results)
    else:
        emit_table(
            ["network", "accuracy", "95 % interval", "NLL", "ECE"], [row(entry) for entry in results["entries"]], title=title(results)
        )


def title(results: dict[str, Any]) -> str:
    """Return what was measured on what."""
    return f"{results['name']} on {results['images']} test images of {results['source']}"


def row(entry: dict[str, Any]) -> list[str]:
    """Return one line of the table."""
    low, high = entry["accuracy_interval"]
    name = entry["file"] + (f", {entry['corruption']}" if "corruption" in entry else "")
    return [name, percent(entry["accuracy"]), f"{low:.1%} to {high:.1%}", f"{entry['nll']:.3f}", f"{entry['ece']:.3f}"]
