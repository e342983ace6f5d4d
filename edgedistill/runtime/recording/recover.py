"""What a killed run left in the folder of events is made whole, or removed, at the next start."""

from __future__ import annotations

from pathlib import Path

from edgedistill.runtime.disk import PART
from edgedistill.runtime.recording.clip import WORK, entries_of, finish, note_of
from edgedistill.runtime.recording.shelf import EVENT
from edgedistill.runtime.recording.sidecar import sidecar, write_sidecar


def recover(folder: Path) -> list[Path]:
    """Finish the clips that were in work, tell what clips show that nothing tells of, remove what is of no use; return those clips."""
    found = []
    for part in sorted(folder.glob(f".*{PART}")):
        stem = part.name.removeprefix(".").removesuffix(WORK)
        if part.name.endswith(WORK) and EVENT.fullmatch(stem):
            target = folder / f"{stem}.avi"
            if finish(part, target):
                found.append(target)
        elif EVENT.fullmatch(part.name.removeprefix(".").partition(".")[0]):
            part.unlink(missing_ok=True)
    for clip in sorted(folder.glob("*.avi")):
        if EVENT.fullmatch(clip.stem) and not clip.with_suffix(".json").exists():
            _tell(clip)
    for told in folder.glob("*.json"):
        if EVENT.fullmatch(told.stem) and not any(told.with_suffix(suffix).exists() for suffix in (".avi", ".jpg")):
            told.unlink(missing_ok=True)
    return found


def _tell(clip: Path) -> None:
    with clip.open("rb") as stream:
        note, entries = note_of(stream), entries_of(stream)
    if note is not None and entries:
        write_sidecar(clip.with_suffix(".json"), sidecar(note, [entry.stamp for entry in entries], recovered=True))
