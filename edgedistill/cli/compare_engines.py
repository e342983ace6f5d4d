"""`edgedistill compare-engines`: every file of a bundle by every installed interpreter and thread count, timed in turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click


class ThreadCounts(click.ParamType):
    """Whole numbers above 0 that commas part, or `auto`."""

    name = "N,N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int] | Literal["auto"]:
        """Return the numbers or "auto"; a usage error for anything else."""
        if value == "auto" or isinstance(value, list):
            return value
        parts = str(value).split(",")
        if not all(part.isdecimal() and int(part) >= 1 for part in parts):
            self.fail(f"{value!r} is neither numbers of 1 or more such as 1,2 nor auto", param, ctx)
        return [int(part) for part in parts]


@click.command("compare-engines", epilog="Example: edgedistill compare-engines runs/demo/bundle --threads 1,2")
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--threads", type=ThreadCounts(), help="Thread counts; by default 1 and one a core, four at most.")
@click.option("--rounds", type=click.IntRange(min=1), default=20, show_default=True, help="Rounds over all combinations.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def command(bundle: Path, threads: list[int] | Literal["auto"] | None, rounds: int, *, as_json: bool) -> int:
    """Time each file by each interpreter in rounds, and tell the fastest, the spread between rounds and the memory."""
    from edgedistill.runtime.compare_engines import CompareOptions, compare_command

    return compare_command(bundle, CompareOptions(threads=threads, rounds=rounds), as_json_object=as_json)
