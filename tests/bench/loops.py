"""Our camera loop against those that people start from, on this machine: rate, age of a frame at its result, processor, memory, start.

Each loop is a script in `loop_children/`, run in a process of its own, in turn, several rounds, on the same network (the shipped
garments', int8, one thread) and the same frames: a video file as fast as it goes, then a camera of 30 frames a second over HTTP.
The loops of other projects get environments of their own below runs/bench/venvs; one that cannot be installed is left out, with
the reason. `python tests/bench/loops.py --out FILE` writes what README tables are made of.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from entry import OUT, Entry, at_most, machine, median
from loop_files import BUNDLE, clip, for_ultralytics

from edgedistill import bundle
from edgedistill.bundle import write_atomically
from edgedistill.runtime.conditions import environment

SCHEMA = 1
CHILDREN = Path(__file__).with_name("loop_children")
ROUNDS, LIVE_S, TIMEOUT_S = 3, 5.0, 180.0
#: What is told of each run, as medians over the rounds.
FIGURES = ("fps", "first_result_s", "age_p50_ms", "age_p99_ms", "cpu_share", "cpu_ms_a_result", "cpu_share_beside_inference", "peak_rss_mb")


class Loop(NamedTuple):
    """A script of `loop_children/`, which package it needs, if that is not ours, and which of the bundle's files it runs."""

    script: str
    what: str
    package: str | None = None
    file: str = "tflite-int8"


LOOPS = {
    "bare": Loop("bare.py", "LiteRT's invoke alone"),
    "edgedistill": Loop("ours.py", "this project's camera command, LiteRT"),
    "edgedistill-onnx": Loop("ours.py", "this project's camera command, onnxruntime", file="onnx-int8"),
    "tensorflow-sample": Loop("tensorflow_sample.py", "TensorFlow's Raspberry Pi sample, written anew"),
    "mediapipe-sample": Loop("mediapipe_sample.py", "MediaPipe's Raspberry Pi sample, written anew", package="mediapipe"),
    "mediapipe-video": Loop("mediapipe_video.py", "MediaPipe's ImageClassifier in video mode", package="mediapipe"),
    "ultralytics": Loop("ultralytics_predict.py", "ultralytics' predict, stream", package="ultralytics", file="onnx-int8"),
}
#: Which of ours each of the others is held against: the one with the same interpreter.
AGAINST = {"tensorflow-sample": "edgedistill", "mediapipe-sample": "edgedistill", "mediapipe-video": "edgedistill"} | {
    "ultralytics": "edgedistill-onnx"
}


class Kind(NamedTuple):
    """A way of feeding the loops: `fps` of the camera, None for the video."""

    name: str
    fps: float | None


FILE, LIVE, SLOW = Kind("file", None), Kind("live", 30.0), Kind("slow", 6.0)

Run = Callable[[str, Kind], dict[str, Any]]


class Compared(NamedTuple):
    """Medians by loop and kind, and the loops that were left out with the reason."""

    rounds: int
    rows: dict[str, dict[str, dict[str, Any]]]
    left_out: dict[str, str]


def compare(pythons: Mapping[str, Path], left_out: Mapping[str, str], run: Run, *, rounds: int) -> Compared:
    """Run the loops in turn, and return medians; a loop that fails is left out from then on.

    Args:
        pythons: the interpreter of each loop's environment.
        run: runs a loop once on one kind of frames; RuntimeError if it fails.
    """
    failed = dict(left_out)
    seen: dict[str, dict[str, list[dict[str, Any]]]] = {name: {} for name in pythons}
    for number in range(rounds):
        names = list(pythons) if number % 2 == 0 else list(pythons)[::-1]
        for name in (name for name in names if name not in failed):
            try:
                for kind in kinds_of(name):
                    seen[name].setdefault(kind.name, []).append(run(name, kind))
            except RuntimeError as error:
                failed[name] = str(error)
    rows = {name: {kind: medians(runs) for kind, runs in kinds.items()} for name, kinds in seen.items() if name not in failed}
    return Compared(rounds, rows, failed)


def kinds_of(name: str) -> list[Kind]:
    """Return on what a loop is run: the bare interpreter reads nothing, and the slow camera tells what our loop costs at idle."""
    if name == "bare":
        return [FILE]
    return [FILE, LIVE, SLOW] if name == "edgedistill" else [FILE, LIVE]


def medians(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the median of each figure over the runs that tell it, and the version."""
    found: dict[str, Any] = {"version": runs[-1]["version"]}
    for figure in FIGURES:
        values = [run[figure] for run in runs if run[figure] is not None]
        found[figure] = median(values) if values else None
    return found


def run_once(name: str, kind: Kind, *, python: Path) -> dict[str, Any]:
    """Run a loop's process and return what it measured; RuntimeError with its last words if it fails."""
    loop, loaded = LOOPS[name], bundle.load(BUNDLE)
    model = for_ultralytics() if loop.package == "ultralytics" else loaded.file_path(loaded.model(loop.file).file)
    arguments = ["--bundle", str(BUNDLE), "--model", str(model)]
    if kind.fps is None:
        return _child(python, loop.script, [*arguments, "--source", str(clip())])
    with camera(kind.fps) as address:
        return _child(python, loop.script, [*arguments, "--source", address, "--stamped", "--seconds", str(LIVE_S)])


def _child(python: Path, script: str, arguments: Sequence[str]) -> dict[str, Any]:
    result = OUT / "loops" / "result.json"
    result.unlink(missing_ok=True)
    settings = {"LOOP_RESULT": str(result), "LOOP_STARTED_NS": str(time.monotonic_ns()), "YOLO_CONFIG_DIR": str(result.parent)}
    try:
        done = subprocess.run(
            [str(python), str(CHILDREN / script), *arguments],
            env=os.environ | settings,
            cwd=result.parent,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{script} was not done after {TIMEOUT_S:g} s") from error
    if done.returncode != 0 or not result.exists():
        words = done.stderr.strip().splitlines()
        raise RuntimeError(f"{script} ended with exit code {done.returncode}: {words[-1] if words else 'it said nothing'}")
    measured: dict[str, Any] = json.loads(result.read_text())
    return measured


@contextmanager
def camera(fps: float) -> Iterator[str]:
    """Run the stamped camera and yield its address."""
    command = [sys.executable, str(CHILDREN / "stamped_camera.py"), str(fps)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def environments(venvs: Path = OUT / "venvs") -> tuple[dict[str, Path], dict[str, str]]:
    """Return each loop's Python, its environment made on first use, and the loops that cannot be installed with the reason."""
    pythons, left_out = {}, {}
    for name, loop in LOOPS.items():
        try:
            pythons[name] = Path(sys.executable) if loop.package is None else environment_of(loop.package, venvs)
        except RuntimeError as error:
            left_out[name] = str(error)
    return pythons, left_out


def environment_of(package: str, venvs: Path) -> Path:
    """Return the Python of an environment with a package from the registry; RuntimeError if it cannot be installed."""
    folder, python = venvs / package, venvs / package / "bin" / "python"
    if (folder / "done").exists():
        return python
    print(f"installing {package} into {folder}, once", file=sys.stderr, flush=True)
    needed = [package, "onnxruntime"] if package == "ultralytics" else [package]
    for command in ([sys.executable, "-m", "venv", str(folder)], [str(python), "-m", "pip", "install", "-q", *needed]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            words = done.stderr.strip().splitlines()
            raise RuntimeError(f"{package} does not install here: {words[-1] if words else 'pip said nothing'}")
    (folder / "done").touch()
    return python


def entries(found: Compared) -> list[Entry]:
    """Return the entries with their bounds: at least as fast as each other loop, quick to start, small, and nearly idle at 6 a second."""
    how = f"medians of {found.rounds} rounds in turn, {BUNDLE.name} int8, 1 thread, 640x480; {machine()}"
    ours = found.rows.get("edgedistill")
    if ours is None:
        raise RuntimeError(f"our own loop failed: {found.left_out.get('edgedistill')}")
    told = []
    for name, rows in found.rows.items():
        if name in AGAINST and AGAINST[name] in found.rows:
            told += list(_against(name, rows, found.rows[AGAINST[name]], how=how))
    slow = ours["slow"]["cpu_share_beside_inference"]
    told += [
        at_most("loops first_result_s", ours["file"]["first_result_s"], bound=0.8, unit="s", how=f"from exec; {how}"),
        at_most("loops peak_rss_mb", max(row["peak_rss_mb"] for row in ours.values()), bound=120.0, unit="MB", how=how),
        at_most("loops cpu_at_6_fps", slow, bound=0.03, unit="cores", how=f"beside the inference itself, decoding included; {how}"),
        at_most("loops age_p99_ms", ours["live"]["age_p99_ms"], bound=None, unit="ms", how=f"camera of 30 a second; {how}"),
    ]
    return told


def _against(name: str, theirs: Mapping[str, Any], ours: Mapping[str, Any], *, how: str) -> Iterator[Entry]:
    """Yield how many times our rate theirs is, which must not be above 1, and the other figures for information."""
    version = theirs["file"]["version"]
    ratio = theirs["file"]["fps"] / ours["file"]["fps"]
    pair = f"{theirs['file']['fps']:.1f} by {LOOPS[name].what} ({version}), {ours['file']['fps']:.1f} by ours"
    yield at_most(f"loops fps {name}", ratio, bound=1.0, unit="ratio", how=f"a video as fast as it goes: {pair}; {how}")
    for kind, figure in (("live", "age_p99_ms"), ("file", "cpu_ms_a_result"), ("file", "peak_rss_mb"), ("file", "first_result_s")):
        one, other = theirs[kind][figure], ours[kind][figure]
        if one and other:
            text = f"{figure}, {kind}: theirs {one:.3g}, ours {other:.3g}; {how}"
            yield at_most(f"loops {figure} {name}", other / one, bound=None, unit="ratio", how=text)


def as_json(found: Compared) -> dict[str, Any]:
    """Return everything as JSON values, with the conditions that it holds for."""
    rows = {name: {"what": LOOPS[name].what, **kinds} for name, kinds in found.rows.items()}
    about = {"bundle": BUNDLE.name, "rounds": found.rounds, "camera_fps": {kind.name: kind.fps for kind in (LIVE, SLOW)}}
    return {"schema": SCHEMA} | about | {"rows": rows, "left_out": found.left_out, "environment": environment(), "load": machine()}


def measured(*, rounds: int = ROUNDS, out: Path = OUT / "loops.json") -> list[Entry]:
    """Compare all loops, write the file, and return the entries."""
    (OUT / "loops").mkdir(parents=True, exist_ok=True)
    pythons, left_out = environments()
    found = compare(pythons, left_out, lambda name, kind: run_once(name, kind, python=pythons[name]), rounds=rounds)
    for name, reason in found.left_out.items():
        print(f"  left out: {name}: {reason}", file=sys.stderr, flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, msgspec.json.format(msgspec.json.encode(as_json(found)), indent=2) + b"\n")
    return entries(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare the loops alone, as many rounds as wanted."""
    parser = argparse.ArgumentParser(prog="tests/bench/loops.py", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=OUT / "loops.json", help="default: %(default)s")
    given = parser.parse_args(arguments)
    from run import table

    found = measured(rounds=given.rounds, out=given.out)
    print(table(found))
    return 0 if all(entry.ok for entry in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
