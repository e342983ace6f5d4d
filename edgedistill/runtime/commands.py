"""The device's commands as functions of frozen options, called by `python -m edgedistill.runtime` and by `edgedistill`.

They write results to stdout and everything else to stderr, raise `EdgeDistillError`, and return the exit code.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from edgedistill.bundle import Bundle
from edgedistill.errors import EngineError
from edgedistill.runtime import operators as each_operator
from edgedistill.runtime.engines import as_bundle
from edgedistill.runtime.profile import SCHEMA, ProfileOptions, as_text, profile
from edgedistill.runtime.selfcheck import Check, selfcheck

SHOWN_LABELS = 10


def profile_command(
    bundle: Path, options: ProfileOptions, *, as_json: bool = False, operators: bool = False, picture: Path | None = None
) -> int:
    """Profile one model file and write a table or JSON.

    Args:
        operators: tell also what each operator takes.
        picture: where a picture of the costliest operators goes.
    """
    found = profile(bundle, options)
    each = _operators(bundle, options, threads=found["threads"]) if operators or picture is not None else None
    if as_json:
        print(_json(found | ({} if each is None else {"operators": each_operator.as_json(each)})))
    else:
        print(as_text(found) + ("" if each is None else f"\n\n{each_operator.as_text(each)}"))
    if each is not None and picture is not None:
        sys.stdout.flush()
        each_operator.write_picture(each, picture)  # last, so that a full disk does not cost the figures
    return 0


def _operators(bundle: Path, options: ProfileOptions, *, threads: int) -> each_operator.Found:
    wanted = each_operator.OperatorOptions(file=options.file, engine=options.engine, threads=threads)
    return each_operator.profile_operators(bundle, wanted)


def selfcheck_command(bundle: Path, *, file: str | None = None, as_json: bool = False) -> int:
    """Compare each file's answers with the golden ones and write a table or JSON; raises EngineError if one fails or none can run."""
    checks = selfcheck(bundle, file=file)
    rows = [check._asdict() for check in checks]
    print(_json({"schema": SCHEMA, "bundle": str(bundle), "checks": rows}) if as_json else "\n".join(map(check_text, checks)), flush=True)
    failed = [check.file for check in checks if check.state == "failed"]
    if failed:
        raise EngineError(f"{bundle} does not answer here as it did where it was made: {', '.join(failed)} failed; {_advice(checks)}")
    if all(check.state == "skipped" for check in checks):
        raise EngineError(f"no file of {bundle} can run here: {checks[0].note}")
    return 0


def check_text(check: Check) -> str:
    """Return one verdict as a line to read."""
    if check.agreement is None:
        return f"{check.state:<8}{check.file}  {check.note}"
    differs = f"largest difference {check.difference:.2g} (allowed {check.budget:.2g})"
    return f"{check.state:<8}{check.file}  same class {check.agreement:.0%}, {differs}"


def _advice(checks: list[Check]) -> str:
    return next(check.note for check in checks if check.state == "failed")


def info_command(bundle: Path, *, as_json: bool = False) -> int:
    """Write what is in a bundle."""
    loaded = as_bundle(bundle)
    print(_json({"schema": SCHEMA, "manifest": msgspec.to_builtins(loaded.manifest)}) if as_json else info_text(loaded))
    return 0


def info_text(bundle: Bundle) -> str:
    """Return a bundle's manifest to read."""
    manifest = bundle.manifest
    spec, made, labels = manifest.input, manifest.provenance, manifest.labels
    shown = ", ".join(labels[:SHOWN_LABELS]) + (", …" if len(labels) > SHOWN_LABELS else "")
    lines = [
        f"{manifest.name}: {manifest.task}, {len(labels)} classes: {shown}",
        f"input {spec.width}x{spec.height} {spec.color}, {spec.resize}, {spec.interpolation}",
        f"student {made.student}, teacher {made.teacher.model if made.teacher else 'none'}, made {made.created}",
        f"data {made.dataset} ({made.dataset_licence})",
    ]
    for model in manifest.files:
        accuracy = f", accuracy {model.accuracy:.2%}" if model.accuracy is not None else ""
        lines.append(f"  {model.file}: {model.format} {model.precision}, {model.bytes / 1e3:.0f} kB, {model.minimum_runtime}{accuracy}")
    return "\n".join(lines)


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
