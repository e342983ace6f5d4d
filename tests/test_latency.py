"""Percentiles against hand-computed values, the warm-up, and the stopwatch with a clock of our own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill import latency
from edgedistill.latency import LatencyRecorder, Percentiles, percentiles, stopwatch

TIMES = st.lists(st.floats(0, 1e6), min_size=1, max_size=50)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], Percentiles(7, 7, 7, 7)),
        ([1.0, 3.0], Percentiles(2.0, 2.8, 2.98, 3.0)),
        ([3.0, 1.0], Percentiles(2.0, 2.8, 2.98, 3.0)),
        (list(range(101)), Percentiles(50, 90, 99, 100)),
        (np.arange(101) / 10, Percentiles(5, 9, 9.9, 10)),
        ([1.0] * 99 + [1000.0], Percentiles(1.0, 1.0, 10.99, 1000.0)),
    ],
)
def test_percentiles_by_hand(values: list[float], expected: Percentiles) -> None:
    assert percentiles(values) == pytest.approx(expected)


def test_percentiles_are_plain_floats_for_json() -> None:
    assert all(type(value) is float for value in percentiles(np.array([1, 2], np.float32)))


@pytest.mark.parametrize("values", [[], np.array([])])
def test_no_latencies_is_an_error_that_names_the_warmup(values: list[float]) -> None:
    with pytest.raises(ValueError, match="more frames than the warm-up"):
        percentiles(values)


@given(TIMES)
def test_percentiles_are_ordered_and_within_the_values(values: list[float]) -> None:
    found = percentiles(values)
    slack = 1e-9 * max(values)
    assert min(values) - slack <= found.p50 <= found.p90 + slack
    assert found.p90 <= found.p99 + slack
    assert found.p99 <= found.max + slack
    assert found.max == max(values)


@given(TIMES, st.randoms(use_true_random=False))
def test_the_order_of_frames_does_not_matter(values: list[float], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert percentiles(shuffled) == pytest.approx(percentiles(values))


@pytest.mark.parametrize(("warmup", "kept"), [(0, [1.0, 2.0, 3.0]), (1, [2.0, 3.0]), (3, []), (9, [])])
def test_warmup_frames_are_counted_but_not_kept(warmup: int, kept: list[float]) -> None:
    recorder = LatencyRecorder(warmup=warmup)
    for value in (1.0, 2.0, 3.0):
        recorder.add({"invoke": value})
    assert recorder.frames == 3
    assert recorder.values_ms("invoke") == kept
    assert list(recorder.summary()) == (["invoke"] if kept else [])


@pytest.mark.parametrize(("keep", "kept"), [(None, [2.0, 3.0, 4.0]), (2, [3.0, 4.0]), (9, [2.0, 3.0, 4.0])])
def test_a_loop_that_runs_for_days_keeps_only_the_newest(keep: int | None, kept: list[float]) -> None:
    recorder = LatencyRecorder(warmup=1, keep=keep)
    for value in (1.0, 2.0, 3.0, 4.0):
        recorder.add({"invoke": value})
    assert recorder.frames == 4
    assert recorder.values_ms("invoke") == kept
    assert recorder.summary()["invoke"].max == 4.0


def test_stages_are_kept_apart_and_in_order_of_appearance() -> None:
    recorder = LatencyRecorder()
    recorder.add({"preprocess": 1.0, "invoke": 5.0})
    recorder.add({"preprocess": 3.0, "invoke": 7.0, "postprocess": 0.5})
    summary = recorder.summary()
    assert list(summary) == ["preprocess", "invoke", "postprocess"]
    assert (summary["preprocess"].p50, summary["invoke"].p50, summary["postprocess"].p50) == (2.0, 6.0, 0.5)
    assert recorder.values_ms("capture") == []


def test_the_stages_are_those_of_the_profile_format() -> None:
    assert latency.STAGES == ("capture", "preprocess", "invoke", "postprocess", "total")


def test_stopwatch_counts_from_enter_to_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([1_000_000, 3_500_000])
    monkeypatch.setattr(latency.time, "perf_counter_ns", lambda: next(ticks))
    with stopwatch() as took:
        assert took.ms == 0.0
    assert took.ms == 2.5


def test_stopwatch_also_counts_a_block_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0, 4_000_000])
    monkeypatch.setattr(latency.time, "perf_counter_ns", lambda: next(ticks))
    with pytest.raises(KeyError), stopwatch() as took:
        raise KeyError("inside")
    assert took.ms == 4.0


def test_a_recorder_that_keeps_few_forgets_the_oldest() -> None:
    recorder = LatencyRecorder(warmup=1, keep=2)
    for value in (100.0, 1.0, 2.0, 3.0):
        recorder.add({"total": value})
    assert recorder.values_ms("total") == [2.0, 3.0]
    assert recorder.frames == 4
