"""Figures for Prometheus, read back by its own parser."""

from __future__ import annotations

import sys

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as classic
from watched import ToldSource, add, watching

from edgedistill.errors import MissingExtraError
from edgedistill.runtime.serve.metrics import Metrics, distinct
from edgedistill.runtime.status import Machine, OutputStatus

SOURCES = (
    ToldSource(0, name="/dev/video0", dropped={"newer frame": 5, "undecodable": 1}, captured=100),
    ToldSource(1, name='rtsp://"odd"\\\n', state="reconnecting", quality="unusable", fps=None, reconnects=3, stalls=2, age_s=None),
)


def told(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return the value of each sample by name and labels; two of the same would be an error of ours."""
    samples = [sample for family in classic(text) for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples)
    return found


def value(found: dict, name: str, **labels: str) -> float:
    return found[f"edgedistill_{name}", frozenset(labels.items())]


def scraped(*sources: ToldSource, accept: str = "", **given: object) -> str:
    monitor = watching(*sources, **given)
    add(monitor, 1)
    body, _ = Metrics(monitor.status).text(accept)
    return body.decode()


def test_all_figures_are_there() -> None:
    found = told(scraped(*SOURCES))
    assert value(found, "results_total") == 1
    assert value(found, "dropped_total", source="/dev/video0", cause="newer frame") == 5
    assert value(found, "dropped_total", source="/dev/video0", cause="undecodable") == 1
    odd = SOURCES[1].now.name
    assert value(found, "reconnects_total", source=odd) == 3
    assert value(found, "stalls_total", source=odd) == 2
    assert (value(found, "source_up", source="/dev/video0"), value(found, "source_up", source=odd)) == (1, 0)
    assert value(found, "source_fps", source=odd) == 0
    assert value(found, "captured_total", source="/dev/video0") == 100
    assert value(found, "stage_seconds", stage="preprocess", quantile="0.99") == pytest.approx(0.0004)
    assert value(found, "temperature_celsius") == 61.5
    assert value(found, "resident_memory_bytes") == 83e6
    assert value(found, "output_written_total", output="text") == 900
    assert value(found, "output_dropped_total", output="text") == 3
    assert value(found, "output_failed_total", output="text") == 0
    assert value(found, "throttled", flag="under-voltage now") == 0
    assert value(found, "start_time_seconds") > 1e9


def test_quality_is_one_of_its_words() -> None:
    found = told(scraped(*SOURCES))
    words = {word: value(found, "quality", edgedistill_quality=word) for word in ("excellent", "fair", "poor", "unusable")}
    assert words == {"excellent": 0, "fair": 0, "poor": 0, "unusable": 1}
    assert value(found, "source_quality", source="/dev/video0", edgedistill_source_quality="excellent") == 1


def test_what_the_board_says_is_told_by_flag() -> None:
    found = told(scraped(machine=lambda: Machine(None, ["throttled now", "something new"], None)))
    assert value(found, "throttled", flag="throttled now") == 1
    assert value(found, "throttled", flag="something new") == 1
    assert value(found, "throttled", flag="under-voltage now") == 0
    assert not any(name in ("edgedistill_temperature_celsius", "edgedistill_resident_memory_bytes") for name, _ in found)


def test_a_machine_that_tells_nothing_has_no_figures() -> None:
    assert "throttled" not in scraped(machine=lambda: Machine(None, None, None))


def test_all_names_begin_alike_and_units_are_base_units() -> None:
    for name, _ in told(scraped(*SOURCES)):
        assert name.startswith("edgedistill_")
        assert not name.endswith(("_ms", "_mb", "_percent"))


def test_both_formats_can_be_read() -> None:
    names = {family.name for family in open_metrics(scraped(*SOURCES, accept="application/openmetrics-text; version=1.0.0"))}
    assert {"edgedistill_results", "edgedistill_dropped", "edgedistill_quality", "edgedistill_stage_seconds"} <= names


def test_before_the_first_result_there_are_figures_too() -> None:
    body, content_type = Metrics(watching().status).text("")
    found = told(body.decode())
    assert value(found, "results_total") == 0
    assert content_type.startswith("text/plain")
    assert not any(name == "edgedistill_result_age_seconds" for name, _ in found)


def test_sources_and_outputs_of_the_same_name_are_kept_apart() -> None:
    assert distinct(["a", "b", "a"]) == ["a #0", "b", "a #2"]
    outputs = (OutputStatus("text", 1, 0, 0, None), OutputStatus("text", 2, 0, 0, None))
    found = told(scraped(ToldSource(0, name="clip"), ToldSource(1, name="clip"), outputs=outputs))
    assert value(found, "output_written_total", output="text #1") == 2
    assert value(found, "source_up", source="clip #0") == 1


def test_without_the_package_the_install_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingExtraError, match=r"edgedistill\[iot\]"):
        Metrics(watching().status)
