"""One capture of a live source, and the thread that reads it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from edgedistill.runtime.frames import Capture


class Reader:
    """A capture, open or not yet, and its thread. Attributes are written by that thread once it runs, except `given_up`."""

    def __init__(self, capture: Capture | None) -> None:
        self.capture = capture
        self.given_up = False
        self.opened_s: float | None = None
        self.whole_s = 0.0  # when the newest frame that could be decoded arrived
        self.error: str | None = None
        self.over = False
        self.thread: threading.Thread | None = None

    def start(self, read: Callable[[Reader], None], name: str) -> None:
        """Call `read` with this reader in a thread; where the system grants none, it is over at once, with the capture released."""
        thread = threading.Thread(target=read, args=(self,), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if self.capture is not None:
                with suppress(Exception):  # whatever a driver raises
                    self.capture.release()
            self.error, self.over = f"it cannot be read now: {error}", True
        else:
            self.thread = thread

    def give_up(self) -> None:
        """Let it deliver nothing any more, and end as soon as it can."""
        self.given_up = True
        if self.capture is not None:
            self.capture.interrupt()
