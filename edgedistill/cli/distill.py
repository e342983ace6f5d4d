"""`edgedistill distill`: a recipe in, a run folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgedistill import recipe
from edgedistill.cli.output import emit_json, emit_table, note, percent, progress_bars


@click.command("distill", epilog="Example: edgedistill distill recipe.toml --set train.epochs=3 --out runs/first")
@click.argument("recipe_file", metavar="RECIPE", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run; runs/NAME by default.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one key of the recipe; may be repeated.")
@click.option("--plain", is_flag=True, help="Train the control: the same student and budget without the teacher.")
@click.option("--smoke", is_flag=True, help="A few batches only, to see that everything runs.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out; a finished run is left alone.")
@click.option("--json", "as_json", is_flag=True, help="Write the results as one JSON object.")
def command(
    recipe_file: Path, out: Path | None, overrides: tuple[str, ...], *, plain: bool, smoke: bool, resume: bool, as_json: bool
) -> None:
    """Train the student of RECIPE, taught by its teacher if it has one."""
    wanted = recipe.load(recipe_file, overrides=overrides)
    wanted = wanted.plain() if plain else wanted
    wanted = wanted.smoke() if smoke else wanted
    folder = out or Path("runs") / (wanted.name + ("-plain" if plain else "") + ("-smoke" if smoke else ""))
    from edgedistill.distill import schedules

    with progress_bars() as tell:
        results = schedules.distill(wanted, folder, resume=resume, progress=tell, say=note)
    if as_json:
        emit_json(results)
    else:
        show(results)
        note(f"The student is in {folder}; export it with: edgedistill export {folder}")


def show(results: dict[str, Any]) -> None:
    """Write a run's results as a table."""
    rows = []
    for role in ("teacher", "student"):
        if entry := results.get(role):
            low, high = entry["accuracy_interval"]
            size = [f"{entry['parameters'] / 1e6:.2f} M", f"{entry['macs'] / 1e6:.1f} M"]
            rows.append([f"{role} {entry['model']}", percent(entry["accuracy"]), f"{low:.1%} to {high:.1%}", f"{entry['ece']:.3f}", *size])
    emit_table(["network", "test accuracy", "95 % interval", "ECE", "parameters", "MACs"], rows, title=results["name"])
    validation = results["validation"]
    note(f"validation: last epoch {percent(validation['last'])}, best {percent(validation['best'])} (epoch {validation['best_epoch']})")
    if skipped := results["data"].get("skipped_files"):
        note(f"{len(skipped)} images could not be decoded and were left out: {', '.join(skipped)}")
