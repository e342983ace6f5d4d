"""`python -m edgedistill.runtime`: the device's command line, by argparse, so that a board needs no further package.

Exit codes: 0 done, 1 a user's error, 2 usage, 3 a bug (a log file is written), 4 no camera or video, 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import platform
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgedistill import __version__, streams
from edgedistill.errors import EdgeDistillError
from edgedistill.runtime.camera_flags import add_engine_flags, add_flags, options_of, positive_int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; the only place where the device's errors become exit codes."""
    streams.replace_closed()
    given = parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        code = int(given.command(given))
        sys.stdout.flush()
        return code
    except EdgeDistillError as error:
        streams.tell(f"Error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        streams.tell("Interrupted.")
        return 130
    except Exception as error:
        ended = streams.end_of_output(error) if isinstance(error, OSError) else None
        if ended is not None:
            return ended
        streams.tell(f"This is a bug in edgedistill; please report it with the log {write_log(arguments)}")
        return 3


def write_log(arguments: Sequence[str] | None) -> Path:
    """Write the current exception with versions to a new file and return its path."""
    lines = [f"edgedistill {__version__}, Python {platform.python_version()}, {platform.platform()}", traceback.format_exc()]
    with tempfile.NamedTemporaryFile("w", prefix="edgedistill-", suffix=".log", delete=False) as stream:
        stream.write("\n".join(lines))
    return Path(stream.name)


def parser(program: str = "python -m edgedistill.runtime") -> argparse.ArgumentParser:
    """Return the parser of all commands; `program` is what its help and examples are called by."""
    top = argparse.ArgumentParser(prog=program, description="Run a bundle on this device.")
    top.add_argument("--version", action="version", version=f"edgedistill {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_camera(commands)
    _add_profile(commands)
    _add_compare_engines(commands)
    check = _add(commands, "selfcheck", _selfcheck, "check that a bundle answers here as it did where it was made", example="BUNDLE")
    check.add_argument("--file", help="only this file, or FORMAT-PRECISION such as tflite-int8")
    check.add_argument("--json", action="store_true", help="write one JSON object")
    info = _add(commands, "info", _info, "show what is in a bundle", example="BUNDLE --json")
    info.add_argument("--json", action="store_true", help="write one JSON object")
    return top


def _add(commands: Any, name: str, command: Callable[[Any], int], text: str, *, example: str) -> argparse.ArgumentParser:
    sentence = text[0].upper() + text[1:] + "."
    # A list of all options here would push an error's own line out of sight; --help explains each.
    usage, epilog = "%(prog)s [options] bundle", f"Example: %(prog)s {example}"
    added: argparse.ArgumentParser = commands.add_parser(name, help=text, description=sentence, usage=usage, epilog=epilog)
    added.add_argument("bundle", type=Path, help="the bundle's folder")
    added.set_defaults(command=command)
    return added


def _add_camera(commands: Any) -> None:
    add_flags(_add(commands, "camera", _camera, "run a bundle on a camera, a video or images", example="BUNDLE --source 0 --top-k 3"))


def _add_profile(commands: Any) -> None:
    profile = _add(commands, "profile", _profile, "measure latency, memory and start-up time", example="BUNDLE --threads auto --json")
    add_engine_flags(profile)
    profile.add_argument("--threads", type=thread_count, metavar="N|auto", help="as for camera, or auto to try all counts")
    profile.add_argument("--runs", type=positive_int, default=200, metavar="N", help="measured frames; default: 200")
    profile.add_argument("--operators", action="store_true", help="tell also what each operator takes")
    profile.add_argument("--picture", type=Path, metavar="FILE", help="write a picture of the costliest operators to FILE (.png)")
    profile.add_argument("--power-file", type=Path, metavar="FILE", help="a file that something else keeps the drawn watts in")
    profile.add_argument("--no-energy", action="store_true", help="measure no energy")
    profile.add_argument("--json", action="store_true", help="write one JSON object")


def _add_compare_engines(commands: Any) -> None:
    text = "time every file by every installed interpreter, in turn"
    compare = _add(commands, "compare-engines", _compare_engines, text, example="BUNDLE --threads 1,2")
    compare.add_argument("--threads", type=thread_counts, metavar="N,N|auto", help="thread counts; default: 1 and one a core, four at most")
    compare.add_argument("--rounds", type=positive_int, default=20, metavar="N", help="rounds over all combinations; default: 20")
    compare.add_argument("--json", action="store_true", help="write one JSON object")


def thread_count(text: str) -> int | str:
    """Return a whole number above 0, or `auto`."""
    return text if text == "auto" else positive_int(text)


def thread_counts(text: str) -> list[int] | str:
    """Return whole numbers above 0 that commas part, or `auto`."""
    return text if text == "auto" else [positive_int(part) for part in text.split(",")]


def _camera(given: Any) -> int:
    from edgedistill.runtime.camera_command import camera_command

    return camera_command(given.bundle, options_of(given))


def _profile(given: Any) -> int:
    from edgedistill.runtime.commands import profile_command
    from edgedistill.runtime.energy import EnergyOptions
    from edgedistill.runtime.profile import ProfileOptions

    energy = None if given.no_energy else EnergyOptions(power_file=given.power_file)
    options = ProfileOptions(file=given.file, engine=given.engine, threads=given.threads, runs=given.runs, energy=energy)
    return profile_command(given.bundle, options, as_json=given.json, operators=given.operators, picture=given.picture)


def _compare_engines(given: Any) -> int:
    from edgedistill.runtime.compare_engines import CompareOptions, compare_command

    options = CompareOptions(threads=given.threads, rounds=given.rounds)
    return compare_command(given.bundle, options, as_json_object=given.json)


def _selfcheck(given: Any) -> int:
    from edgedistill.runtime.commands import selfcheck_command

    return selfcheck_command(given.bundle, file=given.file, as_json=given.json)


def _info(given: Any) -> int:
    from edgedistill.runtime.commands import info_command

    return info_command(given.bundle, as_json=given.json)


if __name__ == "__main__":
    from edgedistill.runtime.stopping import leave

    sys.exit(leave(main()))
