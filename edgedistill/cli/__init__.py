"""The command line: a click group that loads a command's module only when it is called, and maps errors to exit codes.

Exit codes: 0 done, 1 a user's error, 2 usage, 3 a bug (a log file is written), 4 no camera or video, 130 interrupted.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import click

from edgedistill import __version__, streams
from edgedistill.errors import EdgeDistillError, ParityError, close_matches

#: One line a command: its module is edgedistill.cli.NAME (- as _) and has a click command `command`.
COMMANDS = {
    "demo": "Run the whole way on real images: teacher, student, export, profile, camera, report.",
    "distill": "Train a student by a recipe, with or without a teacher.",
    "cache": "Show, check or remove the teachers' kept answers.",
    "evaluate": "Measure a run or a bundle on test images.",
    "export": "Export a run's student to ONNX and TFLite, fp32 and int8, as one checked bundle.",
    "profile": "Measure a bundle's latency by stage, its memory and its start-up time.",
    "compare-engines": "Time every file of a bundle by every installed interpreter, in turn.",
    "camera": "Run a bundle on a camera, a video or a folder of images.",
    "info": "Show what is in a bundle.",
    "doctor": "Say what this machine can do and what is missing.",
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is called, so that `--help` starts at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the command names in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"edgedistill.cli.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Offer close matches for an unknown command."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}.{close_matches(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands' lines without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgedistill")
def cli() -> None:
    """Distill a vision teacher into a small student, export it, run it on a device's camera.

    Example: edgedistill demo
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    code = run(arguments)
    if "edgedistill.runtime.stopping" in sys.modules:  # a capture may be blocked in a driver: then the process is ended here
        from edgedistill.runtime.stopping import leave

        code = leave(code)
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; the only place where errors become exit codes."""
    streams.replace_closed()
    try:
        result = cli.main(args=list(arguments) if arguments is not None else None, prog_name="edgedistill", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except SystemExit as left:
        ended = streams.end_of_output(BrokenPipeError()) if left.code == 1 else None  # click's own answer to a reader that left is 1
        if ended is None:
            raise
        return ended
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except EdgeDistillError as error:
        if isinstance(error, ParityError) and error.table:
            click.echo(error.table, err=True)
        if not error.told_elsewhere:
            streams.tell(f"Error: {error}")
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        return 130
    except Exception as error:
        ended = streams.end_of_output(error) if isinstance(error, OSError) else None
        if ended is not None:
            return ended
        from edgedistill.runtime.__main__ import write_log

        streams.tell(f"This is a bug in edgedistill; please report it with the log {write_log(arguments)}")
        return 3
