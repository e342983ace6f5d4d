"""The options that `profile` and `camera` share: which file, by which interpreter, with how many threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import click


class Threads(click.ParamType):
    """A whole number above 0, or `auto`."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | Literal["auto"]:
        """Return the number or "auto"; a usage error for anything else."""
        if value == "auto" or isinstance(value, int):
            return value
        if not str(value).isdecimal() or int(value) < 1:
            self.fail(f"{value!r} is neither a number of 1 or more nor auto", param, ctx)
        return int(value)


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --file, --engine and --threads to a command."""
    options = (
        click.option("--file", "file", metavar="FILE", help="A model file of the bundle, or FORMAT-PRECISION such as tflite-int8."),
        click.option("--engine", metavar="NAME", help="litert, tflite-runtime or onnxruntime; by default the first that fits."),
        click.option("--threads", type=Threads(), help="Threads of the interpreter; by default one a core, four at most."),
    )
    for option in reversed(options):
        command = option(command)
    return command
