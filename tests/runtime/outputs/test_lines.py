"""Results as lines: text, JSON, CSV."""

from __future__ import annotations

import csv
import errno
import io
import json
from pathlib import Path
from typing import Literal

import pytest
from a_result import STAGES_MS, TWO, ToldSource, result
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.latency import Percentiles
from edgedistill.postprocess import Prediction
from edgedistill.runtime.camera import Result
from edgedistill.runtime.frames import Frame
from edgedistill.runtime.monitor import Summary
from edgedistill.runtime.outputs import LineOutput, json_line, line_output, lines, own_stdout, summary_text, text_line
from edgedistill.runtime.outputs.lines import csv_head, csv_line
from edgedistill.runtime.quality import Quality
from edgedistill.runtime.results import read_results
from edgedistill.runtime.status import OutputStatus, SourceStatus


def test_a_json_line_has_every_key() -> None:
    text = json_line(result(dropped=3), ["attic"], now_s=12.6)
    assert "\n" not in text
    assert json.loads(text) == {
        "schema": 1,
        "source": {"index": 0, "name": "attic", "quality": None, "dropped": None},
        "frame_id": 7,
        "time_s": 1.7e9,
        "time_monotonic_s": 12.5,
        "top_k": [{"class_id": 4, "label": "coat", "score": 0.75}, {"class_id": 2, "label": "pullover", "score": 0.2}],
        "stages_ms": STAGES_MS | {"postprocess": 0.1235},
        "age_ms": 100.0,
        "dropped": 3,
    }


def test_a_label_with_a_line_break_stays_on_one_line() -> None:
    text = json_line(result(top_k=(Prediction(0, 'a "b"\nc', 1.0),)))
    assert "\n" not in text
    assert json.loads(text)["top_k"][0]["label"] == 'a "b"\nc'


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (result(), "     7  coat 75.0%, pullover 20.0%  4.6 ms"),
        (result(dropped=2), "     7  coat 75.0%, pullover 20.0%  4.6 ms  2 dropped"),
        (result(top_k=()), "     7  nothing above the threshold  4.6 ms"),
    ],
)
def test_a_text_line(given: Result, expected: str) -> None:
    assert text_line(given) == expected


def source(number: int = 0, quality: Quality = "excellent", *, reconnects: int = 0, **dropped: int) -> SourceStatus:
    causes = {cause.replace("_", " "): count for cause, count in dropped.items()}
    return SourceStatus(f"cam{number}", number, "running", quality, 30.0, 30.0, 120, causes, reconnects, reconnects, 0.1)


def test_a_summary() -> None:
    sources = (source(newer_frame=3, undecodable=1), source(1))
    text = summary_text(Summary(120, 29.97, {"total": Percentiles(1, 2, 3, 4)}, 0.456, sources, ()))
    first, of_source, of_other, head, total = text.splitlines()
    assert first == "120 frames, 30.0 a second, 3 dropped, 1 could not be read, quality excellent, first result after 0.46 s"
    assert of_other == "cam1: quality excellent, 120 captured"
    assert of_source == "cam0: quality excellent, 120 captured, 3 lost (newer frame), 1 lost (undecodable)"
    assert head.split() == ["ms", "p50", "p90", "p99", "max"]
    assert total.split() == ["total", "1.00", "2.00", "3.00", "4.00"]


def test_a_summary_of_a_hard_day() -> None:
    outputs = (OutputStatus("lines", 90, 0, 0, None), OutputStatus("video", 7, 2, 3, "disk full"))
    lines = summary_text(Summary(120, None, {}, None, (source(0, "poor", reconnects=2),), outputs)).splitlines()
    assert "quality poor" in lines[0]
    assert lines[1:] == [
        "cam0: quality poor, 120 captured, 2 stalls, 2 reconnects",
        "video: 7 written, 2 dropped, 3 failed, last error: disk full",
    ]


def test_a_summary_of_nothing() -> None:
    assert summary_text(Summary(0, None, {}, None, (), ())) == "0 frames, 0 dropped, 0 could not be read"


def test_with_several_sources_a_text_line_begins_with_its_name() -> None:
    assert text_line(result(source=1), ["attic", "cellar"]) == "cellar       7  coat 75.0%, pullover 20.0%  4.6 ms"
    assert text_line(result(), ["attic"]).startswith("     7  coat")
    assert text_line(result(source=2), ["attic", "cellar"]).startswith("source 2")


def test_sources_of_the_same_name_are_told_apart() -> None:
    stream = io.StringIO()
    output = line_output("text", stream, sources=[ToldSource("cam"), ToldSource("cam"), ToldSource("yard")], top_k=1)
    for place in range(3):
        output.write(FRAME, result(source=place))
    assert [line.split("  ")[0] for line in stream.getvalue().splitlines()] == ["cam #0", "cam #1", "yard"]
    sources = tuple(source(number, "fair")._replace(name="cam") for number in range(2))
    assert [line.split(":")[0] for line in summary_text(Summary(9, None, {}, None, sources, ())).splitlines()[1:]] == ["cam #0", "cam #1"]


def test_a_json_line_tells_how_its_source_does_without_a_look_for_each_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, now_s = io.StringIO(), [100.0]
    monkeypatch.setattr(lines.time, "monotonic", lambda: now_s[0])
    sources = [ToldSource("attic"), ToldSource("yard", "poor", {"newer frame": 3, "outage": 40})]
    output = line_output("jsonl", stream, sources=sources, top_k=1)
    for _ in range(10):
        for place in range(2):
            output.write(FRAME, result(source=place))
        now_s[0] += 0.11
    assert [source.looks for source in sources] == [2, 2]
    told = [json.loads(line)["source"] for line in stream.getvalue().splitlines()]
    assert told[0] == {"index": 0, "name": "attic", "quality": "excellent", "dropped": {}}
    assert told[-1] == {"index": 1, "name": "yard", "quality": "poor", "dropped": {"newer frame": 3, "outage": 40}}
    stream.seek(0)
    assert [one.source.quality for one in read_results(stream)] == ["excellent", "poor"] * 10


def test_a_table_has_a_head_and_a_cell_for_each_of_its_columns() -> None:
    head, cells = (next(csv.reader([text])) for text in (csv_head(3), csv_line(result(dropped=3), ["attic"], top_k=3, now_s=12.6)))
    assert dict(zip(head, cells, strict=True)) == {
        "source": "0",
        "source_name": "attic",
        "frame_id": "7",
        "time_s": "1700000000.000000",
        "label_1": "coat",
        "score_1": "0.750000",
        "label_2": "pullover",
        "score_2": "0.200000",
        "label_3": "",
        "score_3": "",
        "capture_ms": "1.0000",
        "preprocess_ms": "0.5000",
        "invoke_ms": "3.0000",
        "postprocess_ms": "0.1235",
        "total_ms": "4.6200",
        "age_ms": "100.0",
        "dropped": "3",
    }


@given(st.lists(st.text(max_size=20), max_size=4), st.text(max_size=20))
def test_any_label_is_read_back_from_a_table(labels: list[str], name: str) -> None:
    stream = io.StringIO(newline="")
    output = line_output("csv", stream, sources=[ToldSource(name)], top_k=4)
    given_result = result(top_k=tuple(Prediction(place, label, 0.5) for place, label in enumerate(labels)))
    for _ in range(2):
        output.write(FRAME, given_result)
    text = stream.getvalue()
    assert text.endswith("\r\n")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == 2, "one head, two records"
    for row in rows:
        assert [row[f"label_{place}"] for place in range(1, 5)] == labels + [""] * (4 - len(labels))
        assert row["source_name"] == name


FRAME: Frame = None  # type: ignore[assignment]  # lines show nothing of the frame itself


@pytest.mark.parametrize("kind", ["text", "jsonl", "csv"])
def test_each_line_is_out_at_once(kind: Literal["text", "jsonl", "csv"]) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", newline="")  # type: ignore[arg-type]
    output = line_output(kind, stream, sources=[ToldSource()], top_k=2)
    output.write(FRAME, result())
    before = raw.getvalue()
    assert before.endswith(b"\n")
    output.write(FRAME, result())
    assert raw.getvalue().count(b"\n") == before.count(b"\n") + 1


class FullDisk(io.RawIOBase):
    """A file on a disk that is full after some bytes, until `room` grows."""

    def __init__(self, room: int) -> None:
        self.room, self.data = room, b""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        fits = bytes(data)[: self.room - len(self.data)]  # type: ignore[call-overload]
        if not fits:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.data += fits
        return len(fits)


@pytest.mark.parametrize("room", [0, 1, 100, 250, 251, 400])
def test_a_disk_that_was_full_leaves_whole_lines_only(room: int) -> None:
    disk = FullDisk(room)
    stream = io.TextIOWrapper(io.BufferedWriter(disk), encoding="utf-8", newline="")
    output = line_output("jsonl", stream, sources=[ToldSource()], top_k=2)
    failed = 0
    for _ in range(1000):
        try:
            output.write(FRAME, result())
        except OSError:
            failed += 1
    assert failed > 990
    disk.room = 10**6
    output.write(FRAME, result())
    lines = disk.data.decode().splitlines()
    assert len(lines) < 100, "what waits for room is bounded"
    assert {json.loads(line)["frame_id"] for line in lines} == {7}
    output.close()


def test_own_stdout_ends_where_stdout_does(capfd: pytest.CaptureFixture[str]) -> None:
    stream = own_stdout()
    output = LineOutput(stream, text_line)
    output.write(FRAME, result(top_k=TWO[:1]))
    output.close()
    assert stream.closed
    print("still there")
    assert capfd.readouterr().out == "     7  coat 75.0%  4.6 ms\nstill there\n"


def test_letters_that_a_terminal_lacks_are_escaped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="ascii") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        output = line_output("text", own_stdout(), sources=[ToldSource()], top_k=1)
        output.write(FRAME, result(top_k=(Prediction(0, "Größe", 1.0),)))
        output.close()
    assert (tmp_path / "out").read_text() == "     7  Gr\\xf6\\xdfe 100.0%  4.6 ms\n"
