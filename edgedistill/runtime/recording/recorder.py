"""The output that records events: for each source of the run its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack

from edgedistill.errors import OutputError
from edgedistill.runtime.camera import Result
from edgedistill.runtime.frames import Frame
from edgedistill.runtime.output import Origin
from edgedistill.runtime.recording.options import RecordOptions
from edgedistill.runtime.recording.recover import recover
from edgedistill.runtime.recording.shelf import Shelf
from edgedistill.runtime.recording.watched import Watched

log = logging.getLogger("edgedistill.runtime")


class Recorder:
    """Records the events of all sources; an `Output`. What a killed run left unfinished is made whole at the start.

    What counts is the likeliest class that results have been made to watch, see `RecordOptions.class_ids`, not their top-k.

    Args:
        sources: of the run, in their order.
    """

    name = "recording"

    def __init__(self, options: RecordOptions, sources: Sequence[Origin]) -> None:
        try:
            options.folder.mkdir(parents=True, exist_ok=True)
            with ExitStack() as opened:
                self._shelf = Shelf(options.folder, options.quota_bytes)
                opened.callback(self._shelf.close)
                recovered = recover(options.folder)
                self._shelf.look_through()
                opened.pop_all()
        except OSError as error:
            raise OutputError(f"events cannot be recorded to {options.folder}: {error}; give a folder that can be written to") from error
        for video in recovered:
            log.warning("%s was in work when the last run ended; it is whole now", video)
        self._watched = [Watched(options, self._shelf, source, place) for place, source in enumerate(sources)]

    def write(self, frame: Frame, result: Result) -> None:
        """Take a result; raises OutputError where nothing can be written, after ending what was in work."""
        self._watched[frame.source].add(frame, result)

    def close(self) -> None:
        with ExitStack() as closing:  # all of it, also where the first event cannot be finished
            closing.callback(self._shelf.close)
            for watched in reversed(self._watched):
                closing.callback(watched.end)
