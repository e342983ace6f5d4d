"""What commands show: progress bars on stderr, tables and JSON on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import click


class Tell(Protocol):
    """Told what is being done and how much of it is done."""

    def __call__(self, text: str, done: int, total: int) -> None: ...


@contextmanager
def progress_bars(*, quiet: bool = False) -> Iterator[Tell]:
    """Show one bar a piece of work on stderr: `with progress_bars() as tell: tell("training", 3, 10)`."""
    if quiet:
        yield lambda text, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, Any] = {}

        def tell(text: str, done: int, total: int) -> None:
            if text not in tasks:
                tasks[text] = progress.add_task(text, total=total)
            progress.update(tasks[text], completed=done, total=total)

        yield tell


def note(text: str) -> None:
    """Write one line for the person, on stderr."""
    click.echo(text, err=True)


def emit_json(value: dict[str, Any]) -> None:
    """Write one JSON object with a schema number to stdout."""
    click.echo(json.dumps({"schema": 1, **value}, indent=2))


def emit_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None, numbers: bool = True) -> None:
    """Write a table to stdout; the first column is text, the others are numbers unless told."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for position, header in enumerate(headers):
        table.add_column(header, justify="right" if numbers and position else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    # 'edgedistill[gui]' is text, not markup; a pipe has no width of its own, and a table must not be cut to 80 columns there
    console = Console(markup=False, width=None if sys.stdout.isatty() else 160)
    console.print(table)


def percent(value: float | None) -> str:
    """Return a fraction as 12.34 %, a dash for None."""
    return "\N{EN DASH}" if value is None else f"{value:.2%}".replace("%", " %")
