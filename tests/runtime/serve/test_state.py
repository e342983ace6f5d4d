"""The JSON document, readiness, and the latency of the last minutes."""

from __future__ import annotations

import msgspec
import pytest
from watched import ToldSource, add, watching

from edgedistill.latency import Percentiles
from edgedistill.runtime.serve import state
from edgedistill.runtime.status import Status


def status(**changes: object) -> Status:
    monitor = watching(ToldSource(0))
    add(monitor, 1)
    return monitor.status()._replace(**changes)


def test_the_document_says_all_by_name() -> None:
    monitor = watching(ToldSource(0), ToldSource(1, quality="poor", dropped={"newer frame": 7}))
    add(monitor, 3, source=1)
    found = msgspec.json.decode(msgspec.json.encode(state.document(monitor.status(), preview=True)))
    assert found["schema"] == 1
    assert (found["bundle"], found["threads"], found["results"], found["quality"]) == ("tiny", 2, 1, "poor")
    assert (found["ready"], found["reason"], found["preview"]) == (True, None, True)
    assert found["sources"][0]["answer"] is None
    assert found["sources"][1]["answer"][0] == {"label": "T-shirt", "score": 0.874}
    assert found["sources"][1]["dropped"] == {"newer frame": 7}
    assert found["outputs"] == [{"name": "text", "written": 900, "dropped": 3, "failed": 0, "error": None}]
    assert set(found["stages_ms"]) == {"capture", "preprocess", "invoke", "postprocess", "total"}
    assert set(found["stages_ms"]["total"]) == {"p50", "p90", "p99", "max"}
    assert found["machine"] == {"temperature_c": 61.5, "throttled": [], "rss_mb": 83.0}
    assert "answer" not in found


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"result_age_s": 0.1}, None),
        ({"result_age_s": 6.0}, "no result for 6 s"),
        ({"result_age_s": None}, "no result yet"),
        (
            {"result_age_s": 9.0, "sources": (ToldSource(0, expected_fps=None, name="door", state="reconnecting").now,)},
            "no result for 9 s; door is reconnecting",
        ),
        ({"result_age_s": 1.0, "sources": ()}, None),
    ],
)
def test_when_it_is_ready(changes: dict[str, object], reason: str | None) -> None:
    assert state.not_ready(status(**changes)) == reason


def test_history_has_a_point_a_second_and_gaps_where_nothing_came() -> None:
    history, monitor = state.History(), watching()
    asked = []

    def latency(newest: int) -> dict[str, Percentiles]:
        asked.append(newest)
        return monitor.latency(newest)

    for number in range(4):
        add(monitor, number)
    history.add(4, latency)
    history.add(4, latency)
    add(monitor, 5)
    history.add(5, latency)
    assert asked == [4, 1]
    columns = history.columns()
    assert set(columns) == {"capture", "preprocess", "invoke", "postprocess", "p50", "p99"}
    assert columns["preprocess"] == [0.4, None, 0.4]
    assert columns["p50"][0] is not None
    assert columns["p99"][0] > columns["p50"][0]


def test_history_is_two_minutes_long() -> None:
    history, monitor = state.History(), watching()
    add(monitor, 1)
    for results in range(500):
        history.add(results, monitor.latency)
    assert len(history.columns()["p50"]) == state.HISTORY_POINTS


def test_a_stage_that_is_not_told_is_zero() -> None:
    history = state.History()
    history.add(1, lambda newest: {"total": Percentiles(1.0, 1.0, 2.0, 2.0)})
    assert history.columns()["invoke"] == [0.0]
    assert history.columns()["p99"] == [2.0]
