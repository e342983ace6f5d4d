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

from edgedistill import __version__
from edgedistill.errors import EdgeDistillError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; the only place where the device's errors become exit codes."""
    given = parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        return int(given.command(given))
    except EdgeDistillError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except Exception:
        print(f"This is a bug in edgedistill; please report it with the log {write_log(arguments)}", file=sys.stderr)
        return 3


def write_log(arguments: Sequence[str] | None) -> Path:
    """Write the current exception with versions to a new file and return its path."""
    lines = [f"edgedistill {__version__}, Python {platform.python_version()}, {platform.platform()}", traceback.format_exc()]
    with tempfile.NamedTemporaryFile("w", prefix="edgedistill-", suffix=".log", delete=False) as stream:
        stream.write("\n".join(lines))
    return Path(stream.name)


def parser() -> argparse.ArgumentParser:
    """Return the parser of all four commands."""
    top = argparse.ArgumentParser(prog="python -m edgedistill.runtime", description="Run a bundle on this device.")
    top.add_argument("--version", action="version", version=f"edgedistill {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_camera(commands)
    _add_profile(commands)
    check = _add(commands, "selfcheck", _selfcheck, "check that a bundle answers here as it did where it was made", example="BUNDLE")
    check.add_argument("--file", help="only this file, or FORMAT-PRECISION such as tflite-int8")
    check.add_argument("--json", action="store_true", help="write one JSON object")
    info = _add(commands, "info", _info, "show what is in a bundle", example="BUNDLE --json")
    info.add_argument("--json", action="store_true", help="write one JSON object")
    return top


def _add(commands: Any, name: str, command: Callable[[Any], int], text: str, *, example: str) -> argparse.ArgumentParser:
    sentence = text[0].upper() + text[1:] + "."
    added: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=sentence, epilog=f"Example: python -m edgedistill.runtime {name} {example}"
    )
    added.add_argument("bundle", type=Path, help="the bundle's folder")
    added.set_defaults(command=command)
    return added


def _add_camera(commands: Any) -> None:
    camera = _add(commands, "camera", _camera, "run a bundle on a camera, a video or images", example="BUNDLE --source 0 --top-k 3")
    camera.add_argument(
        "--source", default="0", help="0, /dev/video0, a video, a folder or glob of images, http://, rtsp://, test://; default: 0"
    )
    _add_engine(camera)
    camera.add_argument("--threads", type=positive_int, metavar="N", help="threads of the interpreter; default: one a core, four at most")
    camera.add_argument("--top-k", type=positive_int, default=1, metavar="K", help="classes in a result; default: 1")
    camera.add_argument("--threshold", type=fraction, default=0.0, metavar="P", help="smallest probability to report, 0 to 1; default: 0")
    camera.add_argument(
        "--output", choices=("text", "jsonl"), default="text", help="lines to read, or one JSON object a line; default: text"
    )
    camera.add_argument("--save", type=Path, metavar="FILE", help="write the annotated video to FILE (.mp4 or .avi)")
    camera.add_argument("--show", action="store_true", help="show the annotated frames in a window; q ends")
    camera.add_argument("--duration", type=positive_float, metavar="S", help="end after S seconds")
    camera.add_argument("--frames", type=positive_int, metavar="N", help="end after N frames")


def _add_profile(commands: Any) -> None:
    profile = _add(commands, "profile", _profile, "measure latency, memory and start-up time", example="BUNDLE --threads auto --json")
    _add_engine(profile)
    profile.add_argument("--threads", type=thread_count, metavar="N|auto", help="as for camera, or auto to try all counts")
    profile.add_argument("--runs", type=positive_int, default=200, metavar="N", help="measured frames; default: 200")
    profile.add_argument("--json", action="store_true", help="write one JSON object")


def _add_engine(command: argparse.ArgumentParser) -> None:
    command.add_argument("--file", help="a model file of the bundle, or FORMAT-PRECISION such as tflite-int8")
    command.add_argument("--engine", help="litert, tflite-runtime or onnxruntime; default: the first installed one that fits")


def positive_int(text: str) -> int:
    """Return a whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number of 1 or more, got {text}")
    return value


def positive_float(text: str) -> float:
    """Return a number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def fraction(text: str) -> float:
    """Return a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text}")
    return value


def thread_count(text: str) -> int | str:
    """Return a whole number above 0, or `auto`."""
    return text if text == "auto" else positive_int(text)


def _camera(given: Any) -> int:
    from edgedistill.runtime.camera import LoopOptions
    from edgedistill.runtime.commands import CameraOptions, camera_command

    options = CameraOptions(
        source=given.source,
        file=given.file,
        engine=given.engine,
        threads=given.threads,
        top_k=given.top_k,
        threshold=given.threshold,
        output=given.output,
        save=given.save,
        show=given.show,
        loop=LoopOptions(frames=given.frames, duration_s=given.duration),
    )
    return camera_command(given.bundle, options)


def _profile(given: Any) -> int:
    from edgedistill.runtime.commands import profile_command
    from edgedistill.runtime.profile import ProfileOptions

    options = ProfileOptions(file=given.file, engine=given.engine, threads=given.threads, runs=given.runs)
    return profile_command(given.bundle, options, as_json=given.json)


def _selfcheck(given: Any) -> int:
    from edgedistill.runtime.commands import selfcheck_command

    return selfcheck_command(given.bundle, file=given.file, as_json=given.json)


def _info(given: Any) -> int:
    from edgedistill.runtime.commands import info_command

    return info_command(given.bundle, as_json=given.json)


if __name__ == "__main__":
    from edgedistill.runtime.commands import leave

    sys.exit(leave(main()))
