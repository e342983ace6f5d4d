"""The steps of an export: each is told before it starts, and timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgedistill.latency import stopwatch

Progress = Callable[[str], None]


class Steps:
    """Tells each step to a person and keeps its seconds by name; a step that is done again adds to them."""

    def __init__(self, tell: Progress) -> None:
        self.tell = tell
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, text: str) -> Iterator[None]:
        """Run one step: `with steps("writing x.onnx"): …`."""
        self.tell(text)
        with stopwatch() as took:
            yield
        self.seconds[text] = self.seconds.get(text, 0.0) + took.ms / 1e3
