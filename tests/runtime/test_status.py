"""What follows from a snapshot: whether results flow, and whether a source is away or overdue."""

from __future__ import annotations

import pytest

from edgedistill.latency import Percentiles
from edgedistill.runtime.status import Machine, SourceStatus, State, Status, flowing

CAMERA = SourceStatus("cam", 0, "running", "excellent", 30.0, 30.0, 100, {}, 0, 0, 0.03, patience_s=2.0)
STATUS = Status("tiny", "tiny.tflite", "fake", 1, 0.0, 60.0, 90, 30.0, "excellent", (CAMERA,), (), {}, Machine(None, None, None), 0.1, {})


@pytest.mark.parametrize(
    ("age_s", "patience_s", "inference_s", "flows"),
    [
        (None, [2.0], 0.01, False),
        (0.1, [2.0], 0.01, True),
        (4.9, [2.0], None, True),
        (5.1, [2.0], 0.01, False),
        (4.9, [None], 0.01, True),
        (5.1, [None], 0.01, False),
        (149.0, [2.0, 150.0], 0.01, True),
        (151.0, [2.0, 150.0], 0.01, False),
        (11.0, [2.0], 4.0, True),
        (12.5, [2.0], 4.0, False),
        (1.0, [], 0.01, True),
    ],
)
def test_results_flow_as_far_as_the_slowest_source_or_inference_lets_them(
    age_s: float | None, patience_s: list[float | None], inference_s: float | None, *, flows: bool
) -> None:
    sources = tuple(CAMERA._replace(patience_s=one) for one in patience_s)
    stages_ms = {} if inference_s is None else {"total": Percentiles(*[inference_s * 1e3] * 4)}
    assert flowing(STATUS._replace(result_age_s=age_s, sources=sources, stages_ms=stages_ms)) is flows


@pytest.mark.parametrize(
    ("state", "age_s", "patience_s", "overdue"),
    [
        ("running", 1.9, 2.0, False),
        ("running", 2.1, 2.0, True),
        ("running", 100.0, 150.0, False),
        ("running", 100.0, None, False),
        ("running", None, 2.0, False),
        ("opening", 100.0, 2.0, False),
        ("reconnecting", 100.0, 2.0, False),
        ("ended", 100.0, 2.0, False),
    ],
)
def test_only_what_runs_can_be_overdue(state: State, age_s: float | None, patience_s: float | None, *, overdue: bool) -> None:
    assert CAMERA._replace(state=state, age_s=age_s, patience_s=patience_s).overdue is overdue


@pytest.mark.parametrize(("state", "away"), [("opening", True), ("running", False), ("reconnecting", True), ("ended", False)])
def test_what_should_give_frames_and_does_not_is_away(state: State, *, away: bool) -> None:
    assert CAMERA._replace(state=state).away is away
