"""`edgedistill cache`: the teachers' kept answers: what there is, whether it still holds, and making room."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from edgedistill.cli.output import emit_json, emit_table, note, progress_bars

HEADERS = ["cache", "teacher", "data", "images", "views", "precision", "size", "last used"]


@click.group("cache", epilog="Example: edgedistill cache verify all --sample 256")
def command() -> None:
    """Show, check or remove the teachers' answers that trainings have kept."""


def folder_option(function: Any) -> Any:
    """Add --folder to a command."""
    text = "Where the caches are; ~/.cache/edgedistill/views by default."
    return click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help=text)(function)


@command.command("info", epilog="Example: edgedistill cache info")
@folder_option
@click.option("--json", "as_json", is_flag=True, help="Write everything as one JSON object.")
def info(folder: Path | None, *, as_json: bool) -> None:
    """List all caches with their teacher, data, size and last use."""
    from edgedistill.distill.cache import default_folder
    from edgedistill.distill.cache.store import caches_in
    from edgedistill.distill.cache.survey import describe

    place = folder or default_folder()
    found = [describe(path) for path in caches_in(place)]
    if as_json:
        emit_json({"folder": str(place), "caches": found})
        return
    emit_table(HEADERS, [row(entry) for entry in found], title=str(place), numbers=False)
    for entry in found:
        if entry["problem"]:
            note(f"{entry['fingerprint'][:12]}: {entry['problem']}")


def row(entry: dict[str, Any]) -> list[str]:
    """Return a cache's line in the table."""
    name, megabytes = entry["fingerprint"][:12], f"{entry['bytes'] / 1e6:.1f} MB"
    if entry["problem"]:
        return [name, "broken", "", "", "", "", megabytes, ""]
    form = entry["precision"] + (f", top {entry['top_k']}" if entry["top_k"] else "") + (", features" if entry["features"] else "")
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry["last_used"]))
    views = f"{entry['views_filled']} of {entry['views']}"
    return [name, entry["teacher"] or "unknown", entry["data"], f"{entry['images']:,}", views, form, megabytes, used]


@command.command("verify", epilog="Example: edgedistill cache verify 3f2a --sample 256")
@click.argument("fingerprint", metavar="FINGERPRINT")
@folder_option
@click.option("--sample", type=click.IntRange(min=1), default=64, show_default=True, help="Number of answers to ask for again.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the sample; another sample each time without it.")
@click.option("--json", "as_json", is_flag=True, help="Write the findings as one JSON object.")
def verify(fingerprint: str, folder: Path | None, *, sample: int, seed: int | None, as_json: bool) -> int:
    """Ask the teacher again about a random sample of FINGERPRINT, its first digits or 'all'; exit code 1 if answers differ."""
    from edgedistill.distill.cache import default_folder
    from edgedistill.distill.cache.survey import find
    from edgedistill.distill.cache.verify import as_json as verdict_as_json
    from edgedistill.distill.cache.verify import verify as verify_one

    with progress_bars() as tell:
        paths = find(folder or default_folder(), fingerprint)
        verdicts = [verify_one(path, sample=sample, seed=seed, progress=tell) for path in paths]
    if as_json:
        emit_json({"verdicts": [verdict_as_json(verdict) for verdict in verdicts]})
    for verdict in verdicts if not as_json else ():
        found = verdict.problem or f"{verdict.compared} answers hold; at the worst one off by {verdict.difference:.2g}"
        allowed = "" if verdict.problem else f", {verdict.allowed:.2g} is allowed"
        click.echo(f"{verdict.fingerprint[:12]}: {found}{allowed}")
    return 1 if any(verdict.problem for verdict in verdicts) else 0


@command.command("prune", epilog="Example: edgedistill cache prune --older-than 30 --dry-run")
@click.argument("fingerprints", metavar="[FINGERPRINT]...", nargs=-1)
@folder_option
@click.option("--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="Those that were last used longer ago.")
@click.option("--all", "every", is_flag=True, help="All of them.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(fingerprints: tuple[str, ...], folder: Path | None, older_than: float | None, *, every: bool, dry_run: bool, yes: bool) -> None:
    """Remove caches by their first digits, by age, or all; those that a training uses stay."""
    from edgedistill.distill.cache import default_folder
    from edgedistill.distill.cache.store import caches_in, size
    from edgedistill.distill.cache.survey import bytes_of, find, outdated, plain_files, remove

    if sum([bool(fingerprints), older_than is not None, every]) != 1:
        raise click.UsageError("give either fingerprints, --older-than or --all")
    place = folder or default_folder()
    chosen = list(caches_in(place)) if every else []
    chosen += outdated(place, older_than_days=older_than) if older_than is not None else []
    chosen += [path for name in fingerprints for path in find(place, name)]
    chosen = list(dict.fromkeys(chosen))
    plain = [] if fingerprints else plain_files(place, older_than_days=older_than or 0.0)
    for path in chosen:
        click.echo(f"{path.name[:12]}  {size(bytes_of(path))}")
    what = f"{len(chosen)} caches" + (f" and {len(plain)} files of answers on validation and test images" if plain else "")
    if not (chosen or plain) or dry_run:
        note(f"{what} would be removed" if chosen or plain else f"nothing to remove in {place}")
        return
    if not yes:
        click.confirm(f"Remove {what}?", abort=True, err=True)
    for file in plain:
        file.unlink(missing_ok=True)
    for path in chosen:
        note(f"{path.name[:12]} {'removed' if remove(path) else 'is in use by a training and stays'}")
