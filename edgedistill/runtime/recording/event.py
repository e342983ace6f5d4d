"""An event in work, as a clip or as its best picture: what both have, so that who watches need not know which it is."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from edgedistill.runtime.disk import write_whole
from edgedistill.runtime.recording import avi, sidecar
from edgedistill.runtime.recording.clip import Clip, Note
from edgedistill.runtime.recording.events import Picture
from edgedistill.runtime.recording.shelf import BEFORE
from edgedistill.runtime.recording.stamp import MOST_BYTES, Stamp


class Event(Protocol):
    """Pictures go in while it lasts, files come out."""

    def needed(self, picture: Picture) -> int:
        """Return how many bytes it takes altogether with one more picture."""

    def add(self, picture: Picture) -> None:
        """Take one more picture."""

    def finish(self) -> None:
        """Write what is to stay."""


class ClipEvent:
    """An event as a clip."""

    def __init__(self, folder: Path, name: str, note: Note) -> None:
        self._clip = Clip(folder / f"{name}.avi", note)
        self._told = folder / f"{name}.json"

    def needed(self, picture: Picture) -> int:
        return first_needed(picture) + self._clip.bytes + len(self._clip.entries) * (sidecar.PICTURE_BYTES + 16)

    def add(self, picture: Picture) -> None:
        self._clip.add(picture)

    def finish(self) -> None:
        if entries := self._clip.finish():
            sidecar.write_sidecar(self._told, sidecar.sidecar(self._clip.note, [entry.stamp for entry in entries]))


class StillsEvent:
    """An event as its best picture, and one from before it."""

    def __init__(self, folder: Path, name: str, note: Note, before: Picture | None) -> None:
        self._folder, self._name, self._note, self._before = folder, name, note, before
        self._best: Picture | None = None
        self._stamps: list[Stamp] = []

    @property
    def best_score(self) -> float:
        """The score that a picture has to have more of, to be worth keeping."""
        return self._best.score if self._best is not None else -1.0

    def needed(self, picture: Picture) -> int:
        kept = sum(len(one.jpeg) for one in (self._before, max(self._best or picture, picture, key=lambda one: one.score)) if one)
        return kept + sidecar.BYTES + sidecar.PICTURE_BYTES * (len(self._stamps) + 1)

    def add(self, picture: Picture) -> None:
        self.see(picture)
        if picture.score > self.best_score:
            self._best = picture

    def see(self, picture: Picture) -> None:
        """Note what was seen, without the picture itself."""
        self._stamps.append(Stamp(picture.at_s, picture.time_s, picture.score, picture.label))

    def finish(self) -> None:
        if self._best is None:
            return
        if self._before is not None:
            write_whole(self._folder / f"{self._name}{BEFORE}.jpg", self._before.jpeg)
        write_whole(self._folder / f"{self._name}.jpg", self._best.jpeg)
        sidecar.write_sidecar(self._folder / f"{self._name}.json", sidecar.sidecar(self._note, self._stamps))


def first_needed(picture: Picture) -> int:
    """Return what one more picture of a clip takes, with all that the clip takes in any case."""
    return avi.HEAD_BYTES + sidecar.BYTES + len(picture.jpeg) + MOST_STAMP_BYTES + avi.PICTURE_BYTES + sidecar.PICTURE_BYTES


#: A stamp with a label of letters that take four bytes each.
MOST_STAMP_BYTES = MOST_BYTES // 4
