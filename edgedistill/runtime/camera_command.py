"""The command `camera`: sources, the loop, and all that takes its results, put together from frozen options.

Results go to stdout and everything else to stderr. The first SIGINT or SIGTERM ends the run with a summary, the second at once.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from edgedistill.bundle import Bundle
from edgedistill.errors import OutputError
from edgedistill.runtime import notify
from edgedistill.runtime.ahead import Ahead
from edgedistill.runtime.camera import Classifier, LoopOptions, Result, run
from edgedistill.runtime.conditions import Watch
from edgedistill.runtime.engines import as_bundle, open_engine
from edgedistill.runtime.frames import Frame, Source
from edgedistill.runtime.monitor import Facts, Monitor
from edgedistill.runtime.output import Background, Output
from edgedistill.runtime.outputs import lines
from edgedistill.runtime.outputs.summary import summary_text
from edgedistill.runtime.reporter import Reporter, one_line
from edgedistill.runtime.sources import Wishes, open_source
from edgedistill.runtime.stopping import stop_on_signals
from edgedistill.runtime.turns import Turns

if TYPE_CHECKING:
    from edgedistill.runtime.mqtt import MqttOptions
    from edgedistill.runtime.recording import RecordOptions
    from edgedistill.runtime.serve import ServeOptions

#: How long outputs may take to finish what they hold: after a signal, and after the last frame of a file.
HURRY_S, PATIENCE_S = 0.7, 60.0


class CameraOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `camera` runs, on what, until when, and where the results go.

    With `wait`, sources that are not there yet are waited for. `wishes` are for all sources.
    """

    sources: tuple[str, ...] = ("0",)
    wishes: Wishes = Wishes()
    wait: bool = False
    file: str | None = None
    engine: str | None = None
    threads: int | None = None
    top_k: int = 1
    threshold: float = 0.0
    output: Literal["text", "jsonl", "csv", "none"] = "text"
    save: Path | None = None
    show: bool = False
    record: RecordOptions | None = None
    serve: ServeOptions | None = None
    mqtt: MqttOptions | None = None
    loop: LoopOptions = LoopOptions()


def camera_command(bundle: Path, options: CameraOptions) -> int:
    """Run a bundle on one source or several and return the exit code."""
    loaded = as_bundle(bundle)
    if options.save is not None and str(options.save) in options.sources and options.save.exists():
        raise OutputError(f"{options.save} cannot be saved: it is what is being read; give another name")
    engine = open_engine(loaded, options.file, options.threads, engine=options.engine)
    watched = options.record.class_ids(loaded.manifest.labels) if options.record is not None else ()
    classify = Classifier(loaded, engine, top_k=options.top_k, threshold=options.threshold, watched=watched)
    facts = Facts(loaded.manifest.name, engine.model.file, engine.name, engine.threads)
    changed = threading.Condition()
    # A signal that comes while a source is still opening ends the process as it ends any other.
    with Turns(open_sources(options, changed, classify.ahead()), changed) as turns, stop_on_signals() as stop, ExitStack() as stack:
        watch = stack.enter_context(Watch())
        outputs: list[Background] = []
        monitor = Monitor(facts, turns.sources, machine=watch.machine, outputs=lambda: tuple(output.status() for output in outputs))
        if options.serve is not None:
            stack.enter_context(_served(options.serve, monitor))
        lossless = not any(source.live for source in turns.sources)
        outputs += in_background(open_outputs(options, loaded, turns.sources, monitor=monitor), lossless=lossless, stop=stop)
        stack.enter_context(Reporter(monitor.status, also=lambda status: notify.status(one_line(status))))
        try:
            _run(classify, turns, options, monitor=monitor, outputs=outputs, stop=stop)
        finally:
            notify.stopping()
            close_all(outputs, HURRY_S if stop.is_set() else PATIENCE_S)
            _tell_summary(monitor, watch.warning())
    return 0


def open_sources(options: CameraOptions, changed: threading.Condition, ahead: Ahead) -> list[Source]:
    """Open all sources, or none: what was opened before one that fails is closed again."""
    open_one = partial(open_source, wait=options.wait, changed=changed, ahead=ahead)
    with ExitStack() as opened:
        found = [opened.enter_context(open_one(text, options.wishes, index=index)) for index, text in enumerate(options.sources)]
        opened.pop_all()
    return found


def open_outputs(options: CameraOptions, bundle: Bundle, sources: Sequence[Source], *, monitor: Monitor) -> Iterator[Output]:
    """Yield the outputs that the options ask for; what they need is imported only then, so that a plain run starts fast."""
    if options.output != "none":
        yield lines.line_output(options.output, lines.own_stdout(), sources=sources, top_k=options.top_k)
    if options.save is not None:
        from edgedistill.runtime.outputs.video import AnnotatedVideo

        yield AnnotatedVideo(options.save, sources)
    if options.record is not None:
        from edgedistill.runtime.recording import Recorder

        yield Recorder(options.record, sources)
    if options.mqtt is not None:
        from edgedistill.runtime.mqtt import Publisher

        publisher = Publisher(options.mqtt, monitor, labels=bundle.manifest.labels)
        publisher.start()
        yield publisher


def in_background(outputs: Iterable[Output], *, lossless: bool, stop: threading.Event) -> list[Background]:
    """Give each output its thread, or none: where one does not open, those before it are closed again."""
    found: list[Background] = []
    try:
        for output in outputs:
            found.append(Background(output, lossless=lossless, stop=stop))
    except BaseException:
        close_all(found, HURRY_S)
        raise
    return found


def feed_while_waiting(sources: Sequence[Source]) -> None:
    """Feed systemd's watchdog from a loop that waits for frames: those of a slow source are not due yet, one that is away is no hang.

    A source that is overdue although nobody noticed is one, so it starves the watchdog, as does a loop that does not come here.
    """
    if not any(source.status().overdue for source in sources):
        notify.alive()


@contextmanager
def _served(options: ServeOptions, monitor: Monitor) -> Iterator[None]:
    """Serve the live page, and tell its address with a token that was made up for this run."""
    from edgedistill.runtime.serve import serve, token_for

    token = token_for(options)
    with serve(monitor, msgspec.structs.replace(options, token=token)) as address:
        made_up = f"?token={token}" if token is not None and options.token is None else ""
        print(f"live page: {address}{made_up}", file=sys.stderr, flush=True)
        yield


def _run(
    classify: Classifier, turns: Turns, options: CameraOptions, *, monitor: Monitor, outputs: Sequence[Background], stop: threading.Event
) -> None:
    with ExitStack() as stack:
        show, goes_on = _window(stack) if options.show else (None, lambda: True)

        def idle() -> bool:
            feed_while_waiting(turns.sources)
            return goes_on()

        notify.ready()
        for frame, result in run(classify, turns, options=options.loop, stop=stop, idle=idle):
            monitor.add(frame, result)
            notify.alive()
            for output in outputs:
                output.write(frame, result)
            if show is not None and not show(frame, result):
                return
            if outputs and options.serve is None and show is None and all(output.broken for output in outputs):
                return  # who read the lines has seen enough, and nobody else listens


def _window(stack: ExitStack) -> tuple[Callable[[Frame, Result], bool], Callable[[], bool]]:
    """Open a window, which the main thread alone may draw to; return what shows a result there, and what serves it while none comes.

    Both return whether the run goes on.
    """
    from edgedistill.runtime.outputs.picture import annotate
    from edgedistill.runtime.outputs.screen import goes_on, show, window

    stack.enter_context(window())
    return lambda frame, result: show(annotate(frame.frame_bgr, result)), goes_on


def close_all(outputs: Sequence[Background], within_s: float) -> None:
    """Close all outputs at the same time, so that one that is blocked takes nothing from the others."""
    closing = [threading.Thread(target=output.close, args=(within_s,), name=f"close {output.name}", daemon=True) for output in outputs]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join()


def _tell_summary(monitor: Monitor, warning: str | None) -> None:
    print(summary_text(monitor.summary()), file=sys.stderr, flush=True)
    if warning is not None:
        print(f"Warning: {warning}", file=sys.stderr, flush=True)
