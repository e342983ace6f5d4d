"""Commands of the device's own command line, offered under the same names here: their flags are defined once, there."""

from __future__ import annotations

import click


def passed_on(name: str, text: str) -> click.Command:
    """Return a command that gives its arguments to the device's command of that name."""

    @click.command(name, help=text, context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False)
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments: tuple[str, ...]) -> int:
        from edgedistill.runtime.__main__ import parser

        try:
            given = parser("edgedistill").parse_args([name, *arguments])
        except SystemExit as end:  # the help, or what is wrong with the arguments, is written
            return int(end.code or 0)
        return int(given.command(given))

    return command
