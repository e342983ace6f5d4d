"""One source under watch: whether an event is on, what was before it, and what is recorded of it."""

from __future__ import annotations

import cv2
import numpy as np

from edgedistill.errors import OutputError
from edgedistill.runtime.camera import Result
from edgedistill.runtime.disk import KEEP_FREE_BYTES, require_room
from edgedistill.runtime.frames import Frame
from edgedistill.runtime.output import Origin
from edgedistill.runtime.recording import avi
from edgedistill.runtime.recording.clip import Note
from edgedistill.runtime.recording.event import ClipEvent, Event, StillsEvent, first_needed
from edgedistill.runtime.recording.events import Hysteresis, Picture, PreRoll
from edgedistill.runtime.recording.options import RecordOptions
from edgedistill.runtime.recording.shelf import Shelf

JPEG_QUALITY = 85
#: The pre-roll of one source takes so much memory at most.
PRE_ROLL_BYTES = 64_000_000
#: Where pictures are kept, so many a second are enough to find one from before the event.
STILLS_FPS = 2.0
#: A longer time without frames ends an event, in any case; a clip that held it would not run at its true speed.
LEAST_SILENCE_S = 1.0
_LONGEST_NAME = 200


class Watched:
    """One source's events."""

    def __init__(self, options: RecordOptions, shelf: Shelf, source: Origin, place: int) -> None:
        self._options, self._shelf, self._source, self._place = options, shelf, source, place
        self._is_on = Hysteresis(options.above, options.lower, options.post_roll_s)
        self._before = PreRoll(options.pre_roll_s, PRE_ROLL_BYTES)
        self._name = ""
        self._event: Event | None = None
        self._size_hw = (0, 0)
        self._began_s = self._last_s = self._kept_s = -1e9

    def add(self, frame: Frame, result: Result) -> None:
        """Take a result; raises OutputError where it cannot be recorded, after finishing what was in work."""
        if result.watched is None:
            raise OutputError("events cannot be recorded: the results watch no class; give their Classifier RecordOptions.class_ids")
        _, label, score = result.watched
        height, width = frame.frame_bgr.shape[:2]
        picture = Picture(self._at_s(frame), frame.time_s, (height, width), b"", score, label)
        if not 0 <= picture.at_s - self._last_s <= max(LEAST_SILENCE_S, self._options.post_roll_s):
            self._begin_anew()
        self._last_s = picture.at_s
        on = self._is_on.add(score, picture.at_s)
        if self._event is not None and (not on or self._is_full(picture)):
            self.end()
        if self._is_wanted(picture, on=on):
            self._keep(picture._replace(jpeg=encoded(frame.frame_bgr)), on=on)
        elif isinstance(self._event, StillsEvent):
            self._event.see(picture)

    def end(self) -> None:
        """Finish the event in work, if there is one."""
        event, self._event = self._event, None
        if event is None:
            return
        try:
            event.finish()
        except OSError as error:
            raise self._failed(error) from error
        finally:
            self._shelf.finished(self._name)

    def _keep(self, picture: Picture, *, on: bool) -> None:
        self._kept_s = picture.at_s
        if not on:
            self._before.add(picture)
            return
        try:
            require_room(self._options.folder, KEEP_FREE_BYTES if self._event is None else 0)
            self._record(picture)
        except OSError as error:
            self.end()
            raise self._failed(error) from error
        except OutputError:
            self.end()
            raise

    def _record(self, picture: Picture) -> None:
        if self._event is not None and not self._shelf.make_room(self._name, self._event.needed(picture)):
            self.end()  # it is as large as the quota allows; what follows is an event of its own
        if self._event is None:
            self._begin(picture)
            return
        self._event.add(picture)

    def _begin(self, picture: Picture) -> None:
        self._name = self._shelf.free_name(picture.time_s, picture.label, self._place)
        if not self._shelf.make_room(self._name, first_needed(picture)):
            raise OutputError(f"the quota of {self._options.quota_bytes} bytes is too little for one picture: give more, or smaller frames")
        note = Note(picture.time_s, self._place, self._source.name[:_LONGEST_NAME], picture.size_hw)
        before = [one for one in self._before.taken() if one.size_hw == picture.size_hw]
        self._size_hw, self._began_s = picture.size_hw, picture.at_s
        try:
            if self._options.kind == "stills":
                self._event = StillsEvent(self._options.folder, self._name, note, before[0] if before else None)
                before = []
            else:
                self._event = ClipEvent(self._options.folder, self._name, note)
        except OSError:
            self._shelf.finished(self._name)
            raise
        for one in (*before, picture):
            if self._shelf.make_room(self._name, self._event.needed(one)):
                self._event.add(one)

    def _begin_anew(self) -> None:
        """End the event, and forget what was before a gap."""
        self._is_on.on = False
        self._before.taken()
        self._kept_s = -1e9
        self.end()

    def _is_wanted(self, picture: Picture, *, on: bool) -> bool:
        """Return whether a picture is to be encoded, which costs more than all else here."""
        fps = self._options.fps
        if isinstance(self._event, StillsEvent):
            return picture.score > self._event.best_score
        if not on:
            if self._options.pre_roll_s == 0:
                return False
            if self._options.kind == "stills":
                fps = min(fps or STILLS_FPS, STILLS_FPS)
        elif self._event is None:
            return True
        return fps is None or picture.at_s - self._kept_s >= 0.95 / fps

    def _is_full(self, picture: Picture) -> bool:
        too_long = picture.at_s - self._began_s >= self._options.longest_s
        return too_long or picture.size_hw != self._size_hw or self._shelf.in_work(self._name) > avi.MOST_BYTES

    def _at_s(self, frame: Frame) -> float:
        fps = self._source.fps
        return frame.captured_s if self._source.live or not fps else frame.id / fps

    def _failed(self, error: OSError) -> OutputError:
        return OutputError(f"the event cannot be recorded: {error}; make room in {self._options.folder}")


def encoded(frame_bgr: np.ndarray) -> bytes:
    """Return a frame as JPEG."""
    height, width = frame_bgr.shape[:2]
    done, jpeg = cv2.imencode(".jpg", frame_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise OutputError(f"a frame of {width}x{height} cannot be written as JPEG; use smaller frames: --width, --height")
    return jpeg.tobytes()
