"""The JSON file beside each event, that tells what was seen when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edgedistill.runtime.disk import write_whole
from edgedistill.runtime.recording.clip import Note, rate
from edgedistill.runtime.recording.stamp import Stamp

SCHEMA = 1
#: What it takes at most: in any case, and a picture.
BYTES, PICTURE_BYTES = 4096, 24


def sidecar(note: Note, stamps: list[Stamp], *, recovered: bool = False) -> dict[str, Any]:
    """Return what is told of an event.

    Args:
        stamps: of its pictures, at least one, in their order; for stills of all that were seen.
        recovered: whether the run that recorded it was killed before its end.
    """
    best = max(stamps, key=lambda stamp: stamp.score)
    return {
        "schema": SCHEMA,
        "label": best.label,
        "score": round(best.score, 6),
        "begin_s": note.begin_s,
        "end_s": stamps[-1].time_s,
        "source": {"index": note.source, "name": note.source_name},
        "size_hw": note.size_hw,
        "recovered": recovered,
        "frames": len(stamps),
        "fps": round(rate([stamp.at_s for stamp in stamps]), 3),
        "pre_roll_frames": sum(stamp.time_s < note.begin_s for stamp in stamps),
        "offsets_s": [round(stamp.at_s - stamps[0].at_s, 3) for stamp in stamps],
        "scores": [round(stamp.score, 4) for stamp in stamps],
    }


def write_sidecar(path: Path, told: dict[str, Any]) -> None:
    """Write it, whole or not at all."""
    write_whole(path, msgspec.json.encode(told) + b"\n")
