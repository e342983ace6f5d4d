"""Read a source to its end, as tests do."""

from __future__ import annotations

from edgedistill.runtime.frames import Frame, Source

LONG_S = 10.0


def read_all(source: Source, into: list[Frame] | None = None) -> list[Frame]:
    """Return all frames of a source; those before an error are in `into`."""
    found = into if into is not None else []
    while (frame := source.read(LONG_S)) is not None:
        found.append(frame)
    assert source.ended
    return found
