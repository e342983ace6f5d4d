"""Render the tables of devices/README.md from the profiles: `python devices/matrix.py` prints, with `--write` it rewrites them.

The profiles are data for people and for run.sh; nothing in the package reads them.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edgedistill.validation import to_struct

DEVICES = Path(__file__).parent
README = DEVICES / "README.md"

Text = Annotated[str, msgspec.Meta(min_length=1)]
Positive = Annotated[int, msgspec.Meta(ge=1)]


class _Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frozen record that refuses unknown keys."""


class Recommended(_Struct, frozen=True, kw_only=True):
    """What run.sh starts with; a user's own options win."""

    engine: Literal["litert", "tflite-runtime", "onnxruntime"]
    precision: Literal["fp32", "int8"]
    threads: Positive
    source: Text


class Reference(_Struct, frozen=True, kw_only=True):
    """A latency that somebody else published: of a device like this board, with an engine that need not be ours."""

    device: Text
    model: Text
    resolution: Positive
    precision: Literal["fp32", "fp16", "int8"]
    engine: Text
    threads: Positive | Literal["all", "default", "unstated"]
    latency_ms: Annotated[float, msgspec.Meta(gt=0)]
    statistic: Literal["mean", "min", "p50"]
    source: Text


class Profile(_Struct, frozen=True, kw_only=True):
    """One profile.toml."""

    board: Text
    soc: Text
    cpu: Text
    cores: Positive
    isa: Text
    int8_instructions: list[Text]
    memory_mb: Annotated[list[Positive], msgspec.Meta(min_length=1)]
    architectures: Annotated[list[Literal["x86_64", "aarch64", "armv7l"]], msgspec.Meta(min_length=1)]
    os: Annotated[list[Text], msgspec.Meta(min_length=1)]
    support: Text
    recommended: Recommended
    reference: Annotated[list[Reference], msgspec.Meta(min_length=1)]


def load_profiles(devices: Path = DEVICES) -> dict[str, Profile]:
    """Return the profile of each folder that has one; ValueError names the file and the key that is wrong."""
    return {file.parent.name: _load(file) for file in sorted(devices.glob("*/profile.toml"))}


def _load(file: Path) -> Profile:
    try:
        return to_struct(tomllib.loads(file.read_text(encoding="utf-8")), Profile)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def support_table(profiles: dict[str, Profile]) -> str:
    """Return the support matrix as a Markdown table, one row a board."""
    header = [
        "Folder",
        "Board",
        "CPU",
        "int8 instructions",
        "Memory, MB",
        "System",
        "Architecture",
        "Engine, precision, threads",
        "Support",
    ]
    return _table(header, [_support_row(name, profile) for name, profile in profiles.items()])


def _support_row(name: str, profile: Profile) -> list[str]:
    settings = profile.recommended
    return [
        f"[{name}]({name}/profile.toml)",
        profile.board,
        f"{profile.cores} × {profile.cpu} ({profile.isa})" if not profile.soc.startswith("any") else f"{profile.cpu} ({profile.isa})",
        ", ".join(profile.int8_instructions) or "none",
        ", ".join(map(str, profile.memory_mb)),
        ", ".join(profile.os),
        ", ".join(profile.architectures),
        f"{settings.engine}, {settings.precision}, {settings.threads}",
        profile.support,
    ]


def reference_table(profiles: dict[str, Profile]) -> str:
    """Return all quoted latencies as a Markdown table."""
    header = ["Folder", "Measured on", "Network", "Side", "Precision", "Engine", "Threads", "ms", "Statistic", "Source"]
    rows = [
        [name, r.device, r.model, str(r.resolution), r.precision, r.engine, str(r.threads), f"{r.latency_ms:g}", r.statistic, r.source]
        for name, profile in profiles.items()
        for r in profile.reference
    ]
    return _table(header, rows)


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def fill(text: str, profiles: dict[str, Profile]) -> str:
    """Return the README's text with both tables between their markers made anew."""
    for marker, table in (("support", support_table(profiles)), ("reference", reference_table(profiles))):
        before, found, rest = text.partition(f"<!-- {marker}: made by `python devices/matrix.py --write` -->\n")
        _, closed, after = rest.partition("<!-- end -->")
        if not found or not closed:
            raise ValueError(f"the README has no place for the {marker} table, from '<!-- {marker}: … -->' to '<!-- end -->'")
        text = f"{before}{found}{table}\n{closed}{after}"
    return text


if __name__ == "__main__":
    rendered = fill(README.read_text(encoding="utf-8"), load_profiles())
    if sys.argv[1:] == ["--write"]:
        README.write_text(rendered, encoding="utf-8")
    else:
        sys.stdout.write(rendered)
