"""Says aloud what changes during a run: a source's quality, a board that throttles. Sources that go and come back say so themselves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Self

from edgedistill.runtime.frames import leave_signals_to_main
from edgedistill.runtime.status import Status

log = logging.getLogger("edgedistill.runtime")

#: How often it looks.
EVERY_S = 1.0
#: How the board's flags end, see `firmware`.
NOW, SINCE_START = " now", " since start"


class Reporter:
    """A thread that looks at the run and logs what is other than before; a context manager.

    Args:
        status: returns the run as it is now.
        also: called with each snapshot, such as for the service manager's one line.
    """

    def __init__(self, status: Callable[[], Status], *, also: Callable[[Status], None] | None = None) -> None:
        self._status, self._also = status, also
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join(EVERY_S / 2)

    def _run(self) -> None:
        leave_signals_to_main()
        before: Status | None = None
        while not self._over.wait(EVERY_S):
            now = self._status()
            for line in changes(before, now):
                log.warning(line)
            if self._also is not None:
                self._also(now)
            before = now


def changes(before: Status | None, now: Status) -> Iterator[str]:
    """Yield a line for each thing that a person would want to know, and did not know before; nothing for a run that begins well."""
    old_sources = {source.source: source for source in before.sources} if before else {}
    for source in now.sources:
        old = old_sources.get(source.source)
        if source.quality != (old.quality if old else "excellent"):
            yield f"{source.name}: quality is {source.quality}"
    yield from _flags(before.machine.throttled if before else None, now.machine.throttled or [])


def _flags(before: list[str] | None, now: list[str]) -> Iterator[str]:
    """Yield a line for each new flag of the board; what was since its start, before anybody looked, says nothing of now."""
    for flag in now:
        if flag.endswith(NOW) and flag not in (before or ()):
            yield f"the board says: {flag}; figures taken now are too low"
        elif before is not None and flag not in before and flag.replace(SINCE_START, NOW) not in (*before, *now):
            yield f"the board says: {flag}; it was so for a moment, and figures taken then are too low"


def one_line(status: Status) -> str:
    """Return a run in one line, as a service manager shows it."""
    rate = f"{status.fps:.1f} results a second" if status.fps is not None else f"{status.results} results so far"
    away = [source.name for source in status.sources if source.away]
    return f"{rate}, quality {status.quality}" + (f", waiting for {', '.join(away)}" if away else "")
