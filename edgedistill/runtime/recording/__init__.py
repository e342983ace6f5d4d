"""Recording of events: a clip or a picture whenever a class is seen, with what was before it, within a quota of the disk."""

from edgedistill.runtime.recording.options import RecordOptions
from edgedistill.runtime.recording.recorder import Recorder

__all__ = ["RecordOptions", "Recorder"]
