"""A result to show."""

from __future__ import annotations

from edgedistill.postprocess import Prediction
from edgedistill.runtime.camera import Result
from edgedistill.runtime.quality import Quality
from edgedistill.runtime.status import SourceStatus

STAGES_MS = {"capture": 1.0, "preprocess": 0.5, "invoke": 3.0, "postprocess": 0.123456789, "total": 4.62}
TWO = (Prediction(4, "coat", 0.75), Prediction(2, "pullover", 0.2))


def result(*, top_k: tuple[Prediction, ...] = TWO, dropped: int = 0, source: int = 0) -> Result:
    return Result(top_k, 7, 12.5, 1.7e9, STAGES_MS, dropped, source)


class ToldSource:
    """What lines and summaries know of a source; `looks` counts how often it was asked how it is."""

    def __init__(self, name: str = "attic", quality: Quality = "excellent", dropped: dict[str, int] | None = None) -> None:
        self.name, self.quality, self.dropped, self.looks = name, quality, dropped or {}, 0

    def status(self) -> SourceStatus:
        self.looks += 1
        return SourceStatus(self.name, 0, "running", self.quality, 30.0, 30.0, 120, self.dropped, 0, 0, 0.1)
