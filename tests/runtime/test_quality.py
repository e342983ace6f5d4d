"""The word for a source, at each of its limits."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.runtime import homeassistant
from edgedistill.runtime.camera import Result
from edgedistill.runtime.monitor import Facts, Monitor
from edgedistill.runtime.outputs import json_line, summary_text
from edgedistill.runtime.quality import WORDS, Quality, quality, worst
from edgedistill.runtime.reporter import changes, one_line
from edgedistill.runtime.serve import state
from edgedistill.runtime.serve.metrics import Metrics
from edgedistill.runtime.status import Machine, SourceStatus


@pytest.mark.parametrize(
    ("fps", "expected_fps", "reconnects", "stalls", "silent_s", "word"),
    [
        (30.0, 30.0, 0, 0, 0.0, "excellent"),
        (27.0, 30.0, 0, 4, 0.0, "excellent"),
        (None, None, 0, 0, 0.0, "excellent"),
        (12.0, None, 0, 0, 0.0, "excellent"),
        (26.9, 30.0, 0, 0, 0.0, "fair"),
        (30.0, 30.0, 1, 0, 0.0, "fair"),
        (30.0, 30.0, 0, 5, 0.0, "fair"),
        (18.0, 30.0, 2, 20, 0.0, "fair"),
        (17.9, 30.0, 0, 0, 0.0, "poor"),
        (30.0, 30.0, 3, 0, 0.0, "poor"),
        (30.0, 30.0, 0, 0, 0.1, "poor"),
        (30.0, 30.0, 10, 100, 10.0, "poor"),
        (30.0, 30.0, 11, 0, 0.0, "unusable"),
        (30.0, 30.0, 0, 101, 0.0, "unusable"),
        (30.0, 30.0, 0, 0, 10.1, "unusable"),
        (0.9, 30.0, 0, 0, 0.0, "unusable"),
        (0.5, 0.5, 0, 0, 0.0, "excellent"),
    ],
)
def test_the_word(fps: float | None, expected_fps: float | None, reconnects: int, stalls: int, silent_s: float, word: Quality) -> None:
    assert quality(fps, expected_fps, reconnects=reconnects, stalls=stalls, silent_s=silent_s) == word


@given(st.floats(0, 100), st.integers(0, 200), st.integers(0, 200), st.floats(0, 20), st.sampled_from(["reconnects", "stalls", "silent_s"]))
def test_more_trouble_is_never_a_better_word(fps: float, reconnects: int, stalls: int, silent_s: float, what: str) -> None:
    given_one = {"reconnects": reconnects, "stalls": stalls, "silent_s": silent_s}
    before = quality(fps, 30.0, **given_one)  # type: ignore[arg-type]
    after = quality(fps, 30.0, **given_one | {what: given_one[what] + 1})  # type: ignore[arg-type]
    assert WORDS.index(after) >= WORDS.index(before)


@pytest.mark.parametrize(
    ("words", "expected"),
    [([], "excellent"), (["fair"], "fair"), (["fair", "unusable", "poor"], "unusable"), (["excellent", "fair"], "fair")],
)
def test_the_worst(words: list[Quality], expected: Quality) -> None:
    assert worst(words) == expected


class Worded:
    """A source that delivers as well as a word says."""

    name = "attic"

    def __init__(self, word: Quality) -> None:
        self.word = word

    def status(self) -> SourceStatus:
        return SourceStatus(self.name, 0, "running", self.word, 12.0, 30.0, 120, {"newer frame": 7}, 0, 0, 0.1)


@pytest.mark.parametrize("word", WORDS)
def test_the_word_is_the_same_wherever_it_is_told(word: Quality) -> None:
    prometheus = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed")
    source = Worded(word)
    monitor = Monitor(Facts("tiny", "tiny.tflite", "fake", 1), [source], machine=lambda: Machine(None, None, None))  # type: ignore[list-item]
    now = monitor.status()
    result = Result((), 0, 0.0, 0.0, dict.fromkeys(("capture", "preprocess", "invoke", "postprocess", "total"), 1.0), 7)

    assert f"quality {word}" in summary_text(monitor.summary()).splitlines()[0]
    assert f"quality {word}" in one_line(now)
    assert list(changes(None, now)) == ([] if word == "excellent" else [f"attic: quality is {word}"])
    assert json.loads(json_line(result, ["attic"], status=source.status()))["source"]["quality"] == word
    page = state.document(now, preview=False)
    assert (page["quality"], page["sources"][0]["quality"]) == (word, word)
    assert json.loads(homeassistant.state_message(now))["quality"] == word
    assert json.loads(homeassistant.source_message(now.sources[0], homeassistant.NO_ANSWER))["quality"] == word
    text = Metrics(monitor.status).text("")[0].decode()
    told = {
        (sample.name, label): sample.value
        for family in prometheus.text_string_to_metric_families(text)
        for sample in family.samples
        for key, label in sample.labels.items()
        if key.endswith("quality")
    }
    for name in ("edgedistill_quality", "edgedistill_source_quality"):
        assert [one for one in WORDS if told[name, one]] == [word]
