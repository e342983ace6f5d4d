"""The device's commands as functions of frozen options, called by `python -m edgedistill.runtime` and by `edgedistill`.

They write results to stdout and everything else to stderr, raise `EdgeDistillError`, and return the exit code.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from edgedistill.bundle import Bundle
from edgedistill.errors import EngineError, OutputError
from edgedistill.runtime import outputs
from edgedistill.runtime.camera import Classifier, LoopOptions, Result, Tally, run
from edgedistill.runtime.engines import as_bundle, open_engine
from edgedistill.runtime.frames import CAPTURE_THREAD, Source
from edgedistill.runtime.profile import SCHEMA, ProfileOptions, profile
from edgedistill.runtime.selfcheck import Check, selfcheck
from edgedistill.runtime.sources import open_source

SHOWN_LABELS = 10


class CameraOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `camera` runs, on what, until when, and where the results go."""

    source: str = "0"
    file: str | None = None
    engine: str | None = None
    threads: int | None = None
    top_k: int = 1
    threshold: float = 0.0
    output: Literal["text", "jsonl"] = "text"
    save: Path | None = None
    show: bool = False
    loop: LoopOptions = LoopOptions()


def camera_command(bundle: Path, options: CameraOptions) -> int:
    """Run a bundle on a source and write one line a result; the first SIGINT or SIGTERM ends it with a summary, the second at once."""
    loaded = as_bundle(bundle)
    if options.save is not None and options.save.exists() and options.source == str(options.save):
        raise OutputError(f"{options.save} cannot be saved: it is what is being read; give another name")
    engine = open_engine(loaded, options.file, options.threads, engine=options.engine)
    classify = Classifier(loaded, engine, top_k=options.top_k, threshold=options.threshold)
    tally = Tally()
    source = open_source(options.source)
    with stop_on_signals() as stop, source:
        try:
            _run(classify, source, options, tally=tally, stop=stop)
        finally:
            print(outputs.summary_text(tally.summary(source)), file=sys.stderr, flush=True)
    return 0


def _run(classify: Classifier, source: Source, options: CameraOptions, *, tally: Tally, stop: threading.Event) -> None:
    line = outputs.LINES[options.output]
    with ExitStack() as stack:
        pictures = _pictures(stack, options, source)
        for frame, result in run(classify, source, options=options.loop, stop=stop):
            tally.add(result)
            try:
                print(line(result), flush=True)
            except BrokenPipeError:  # who read the lines has seen enough
                _silence_stdout()
                return
            if pictures and not _draw(pictures, frame.frame_bgr, result):
                return


def _pictures(stack: ExitStack, options: CameraOptions, source: Source) -> list[Callable[[np.ndarray], bool | None]]:
    """Open the outputs that take annotated frames; one that returns False ends the run."""
    pictures: list[Callable[[np.ndarray], bool | None]] = []
    if options.save is not None:
        pictures.append(stack.enter_context(outputs.VideoFile(options.save, source.fps)).write)
    if options.show:
        stack.enter_context(outputs.window())
        pictures.append(outputs.show)
    return pictures


def _draw(pictures: list[Callable[[np.ndarray], bool | None]], frame_bgr: np.ndarray, result: Result) -> bool:
    image_bgr = outputs.annotate(frame_bgr, result)
    answers = [picture(image_bgr) for picture in pictures]
    return False not in answers


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets; the second ends the process at once with code 130."""
    stop = threading.Event()

    def handle(number: int, stack: object) -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave(code: int) -> int:
    """Return the exit code, unless a capture is blocked in a driver or on the network: then end the process here, with that code."""
    if any(thread.name.startswith(CAPTURE_THREAD) for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _silence_stdout() -> None:
    """Point stdout to nowhere, so that closing it at the end of the process does not fail once more."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # not a real file
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def profile_command(bundle: Path, options: ProfileOptions, *, as_json: bool = False) -> int:
    """Profile one model file and write a table or JSON."""
    found = profile(bundle, options)
    print(_json(found) if as_json else profile_text(found))
    return 0


def profile_text(found: dict[str, Any]) -> str:
    """Return a profile to read."""
    at = found["environment"]
    version = at["versions"].get(found["engine"], "")
    lines = [
        f"{found['file']} by {found['engine']} {version}, threads: {found['threads']}, runs: {found['runs']}",
        f"{'ms':<12}{'p50':>9}{'p90':>9}{'p99':>9}{'max':>9}",
    ]
    lines += [f"{stage:<12}" + "".join(f"{value:>9.3f}" for value in ms.values()) for stage, ms in found["stages_ms"].items()]
    if len(found["sweep"]) > 1:
        lines += [f"threads: {one['threads']}, p90 {one['total_ms']['p90']:.3f} ms" for one in found["sweep"]]
    memory, first = f"peak memory {found['peak_rss_mb']:.0f} MB", f"first result after {found['first_result_s']:.2f} s"
    int8 = ", ".join(at["int8"]) or "none"
    lines.append(f"{found['fps']:.0f} frames a second; {memory}; {first}")
    lines.append(f"on {at['cpu']}, {at['cores']} cores, int8 instructions: {int8}; governor: {at['governor'] or 'unknown'}")
    return "\n".join(lines)


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
