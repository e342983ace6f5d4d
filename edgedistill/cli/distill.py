"""`edgedistill distill`: a recipe in, a run folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgedistill import recipe
from edgedistill.cli.output import emit_json, emit_table, note, percent, progress_bars


@click.command(
    "distill", epilog="Example: edgedistill distill models/recipes/born-again.toml --set schedule.generations=3 --out runs/born-again"
)
@click.argument("recipe_file", metavar="RECIPE", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run; runs/NAME by default.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one key of the recipe; may be repeated.")
@click.option("--plain", is_flag=True, help="Train the control: the same student and budget without the teacher.")
@click.option("--smoke", is_flag=True, help="A few batches only, to see that everything runs.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out; a finished run is left alone.")
@click.option("--target-latency", type=click.FloatRange(min=0, min_open=True), metavar="MS", help="Prune until a file is this fast.")
@click.option("--target-bytes", type=click.IntRange(min=1), metavar="N", help="Prune until a file is this small.")
@click.option("--profile", type=click.Path(path_type=Path), help="Board whose latency is meant, such as devices/rpi4: an estimate.")
@click.option("--json", "as_json", is_flag=True, help="Write the results as one JSON object.")
def command(
    recipe_file: Path,
    out: Path | None,
    overrides: tuple[str, ...],
    target_latency: float | None,
    target_bytes: int | None,
    profile: Path | None,
    *,
    plain: bool,
    smoke: bool,
    resume: bool,
    as_json: bool,
) -> None:
    """Train the student of RECIPE, taught by its teachers if it has some, in the stages of its schedule if it has one."""
    wanted = recipe.load(recipe_file, overrides=overrides)
    wanted = wanted.plain() if plain else wanted
    wanted = wanted.smoke() if smoke else wanted
    folder = out or Path("runs") / (wanted.name + ("-plain" if plain else "") + ("-smoke" if smoke else ""))
    from edgedistill.distill import schedules
    from edgedistill.distill.engine import is_first_process

    with progress_bars(quiet=not is_first_process()) as tell:
        if target_latency or target_bytes or profile or wanted.student.prune:
            from edgedistill import thinning  # what writes files is loaded for those who need it only

            wanted = thinning.with_target(wanted, latency_ms=target_latency, most_bytes=target_bytes, profile=profile)
            wanted = thinning.resolve(wanted, folder, resume=resume, progress=tell, say=note)
        results = schedules.distill(wanted, folder, resume=resume, progress=tell, say=note)
    if not is_first_process():
        return
    if as_json:
        emit_json(results)
    else:
        show(results)
        note(f"The student is in {folder}; export it with: edgedistill export {folder}")


def show(results: dict[str, Any]) -> None:
    """Write a run's results as tables: its networks, and its stages where it has a schedule."""
    rows = [network_row(f"{role} {entry['model']}", entry) for role in ("teacher", "student") if (entry := results.get(role))]
    if ensemble := results.get("ensemble"):
        rows.append(network_row(f"ensemble of {ensemble['networks']} generations", ensemble))
    emit_table(["network", "test accuracy", "95 % interval", "ECE", "parameters", "MACs"], rows, title=results["name"])
    if stages := results.get("stages"):
        headers = ["stage", "network", "taught by", "test accuracy", "validation", "parameters", "seed", "epochs", "seconds"]
        emit_table(headers, [stage_row(stage) for stage in stages], title="stages")
    if pruned := results["student"].get("pruned"):
        note(pruned_line(results["student"], pruned))
    validation = results["validation"]
    note(f"validation: last epoch {percent(validation['last'])}, best {percent(validation['best'])} (epoch {validation['best_epoch']})")
    if cache := results.get("cache"):
        note(cache_line(cache))
    if skipped := results["data"].get("skipped_files"):
        note(f"{len(skipped)} images could not be decoded and were left out: {', '.join(skipped)}")


def network_row(name: str, entry: dict[str, Any]) -> list[str]:
    """Return one line of the table of networks."""
    low, high = entry["accuracy_interval"]
    sizes = [millions(entry["parameters"], digits=2), millions(entry["macs"], digits=1)]
    return [name, percent(entry["accuracy"]), f"{low:.1%} to {high:.1%}", f"{entry['ece']:.3f}", *sizes]


def stage_row(stage: dict[str, Any]) -> list[str]:
    """Return one line of the table of stages."""
    figures = [percent(stage["accuracy"]), percent(stage["val_accuracy"]), millions(stage["parameters"], digits=2)]
    numbers = [str(stage["seed"]), str(stage["epochs"]), f"{stage['seconds']:.0f}"]
    return [stage["name"], stage["model"], stage["teacher"] or "labels", *figures, *numbers]


def pruned_line(student: dict[str, Any], pruned: dict[str, Any]) -> str:
    """Return what pruning took away."""
    before = pruned["before"]
    parameters = f"{millions(before['parameters'], digits=2)} to {millions(student['parameters'], digits=2)} parameters"
    macs = f"{millions(before['macs'], digits=1)} to {millions(student['macs'], digits=1)} MACs"
    return f"pruned by {pruned['importance']}, {pruned['ratio']:.1%} of the channels: {parameters}, {macs}"


def cache_line(cache: dict[str, Any]) -> str:
    """Return what the view cache did for this training."""
    asked = f"the teacher answered {cache['teacher_forwards']:,} images in this training"
    if "fingerprint" not in cache:
        return f"no view cache: {asked}"
    before = f"{cache['views_filled_before']} of {cache['views']} views were filled before"
    return f"view cache {cache['fingerprint'][:12]}, {cache['bytes'] / 1e6:.1f} MB: {asked}, {before}"


def millions(value: int | None, *, digits: int) -> str:
    """Return a count in millions, a dash for one that is not known."""
    return "\N{EN DASH}" if value is None else f"{value / 1e6:.{digits}f} M"
