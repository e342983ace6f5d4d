"""Lines of results read back: what was written comes out, and whatever else is in a file is told with its place."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.errors import DataError
from edgedistill.latency import STAGES
from edgedistill.postprocess import Prediction
from edgedistill.runtime import results
from edgedistill.runtime.camera import Result
from edgedistill.runtime.outputs import json_line
from edgedistill.runtime.results import LineClass, LineSource, ResultLine, StageTimes, read_results

MS = dict.fromkeys(STAGES, 1.5)
LINES = [json_line(Result((Prediction(4, "coat", 0.75),), number, 12.5, 1.7e9, MS, 0), ["attic"], now_s=12.6) for number in range(3)]


def read(text: str | bytes, *, finished: bool = False) -> list[ResultLine]:
    return list(read_results(io.BytesIO(text.encode() if isinstance(text, str) else text), finished=finished))


def changed(**fields: Any) -> str:
    """Return a line with some keys changed; None removes one."""
    tree = json.loads(LINES[1]) | fields
    return json.dumps({key: value for key, value in tree.items() if value is not None})


def test_a_line_is_typed() -> None:
    (found,) = read(LINES[2] + "\n")
    assert found == ResultLine(
        source=LineSource(index=0, name="attic"),
        frame_id=2,
        time_s=1.7e9,
        time_monotonic_s=12.5,
        top_k=(LineClass(class_id=4, label="coat", score=0.75),),
        stages_ms=StageTimes(**MS),
        age_ms=100.0,
        dropped=0,
    )


FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
RESULTS = st.builds(
    Result,
    st.lists(st.builds(Prediction, st.integers(0, 2**31), TEXT, st.floats(0, 1)), max_size=4).map(tuple),
    st.integers(0, 2**53),
    FINITE,
    FINITE,
    st.fixed_dictionaries(dict.fromkeys(STAGES, st.floats(0, 1e9))),
    st.integers(0, 2**53),
    st.integers(0, 3),
)


@settings(max_examples=50)
@given(st.lists(RESULTS, max_size=5), st.lists(TEXT, max_size=3), st.booleans())
def test_whatever_is_written_is_read_back(written: list[Result], names: list[str], bare_end: bool) -> None:
    text = "".join(json_line(result, names, now_s=result.captured_s) + "\n" for result in written)
    found = read(text.removesuffix("\n") if bare_end else text, finished=True)
    for ours, back in zip(written, found, strict=True):
        assert [(one.class_id, one.label, one.score) for one in back.top_k] == list(ours.top_k)
        assert (back.frame_id, back.time_monotonic_s, back.time_s) == (ours.frame_id, ours.captured_s, ours.time_s)
        assert msgspec.to_builtins(back.stages_ms) == {stage: round(ms, 4) for stage, ms in ours.stages_ms.items()}
        assert (back.dropped, back.age_ms, back.source.index) == (ours.dropped, 0.0, ours.source)
        assert back.source.name == (names[ours.source] if ours.source < len(names) else f"source {ours.source}")
        assert msgspec.json.encode(back).decode() == json_line(ours, names, now_s=ours.captured_s)


@pytest.mark.parametrize("kind", ["path", "text", "bytes"])
def test_paths_and_streams_of_both_kinds(tmp_path: Path, kind: str) -> None:
    text = "\n".join(LINES) + "\n"
    path = tmp_path / "camera.jsonl"
    path.write_text(text)
    given = {"path": path, "text": io.StringIO(text), "bytes": io.BytesIO(text.encode())}[kind]
    assert [result.frame_id for result in read_results(given)] == [0, 1, 2]
    assert kind == "path" or not given.closed


def test_keys_of_later_versions_are_passed_over() -> None:
    (found,) = read(changed(temperature_c=51.5, top_k=[{"class_id": 1, "label": "x", "score": 1, "box": [0, 1]}]))
    assert found.top_k == (LineClass(class_id=1, label="x", score=1.0),)


def test_nothing_is_no_result() -> None:
    assert read("") == read("", finished=True) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (changed(schema=2), "has schema 2, this version reads schema 1; update edgedistill"),
        (changed(schema=2, frame_id=None, result="of another kind"), "has schema 2"),
        (changed(schema=True), "has schema True"),
        (changed(schema="1"), "has schema 1"),
        (changed(schema=1.5), "has schema 1.5"),
        (changed(schema=None, frame_id=None), "has no schema number"),
        (changed(frame_id=None), "is no result of schema 1 .*`frame_id`.*take the line out, or run the camera again"),
        (changed(frame_id=-1), r"is no result of schema 1 .*>= 0 - at `\$.frame_id`"),
        (changed(top_k=[{"class_id": 1, "label": 2, "score": 1}]), r".*at `\$.top_k\[.*\].label`"),
        (changed(stages_ms={"total": 1}), ".*`capture`"),
        ('{"frame_id": 1, "frame', r"is no result \(.*\); take the line out"),
        ("", "is no result"),
        ("[1]", "is no result"),
        ("null", "is no result"),
        ("class dog 0.9", "is no result"),
        ("[" * 5000, "is no result"),
        ('{"schema": ' + "9" * 5000 + "}", "is no result"),
        (LINES[1][:-1] + ', "x": ' + "[" * 200_000 + "]" * 200_000 + "}", "is no result"),
        (LINES[1] + LINES[2], "is no result"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_a_broken_line_in_the_middle_is_refused_with_its_place(tmp_path: Path, line: str, said: str, finished: bool) -> None:
    path = tmp_path / "camera.jsonl"
    path.write_text("\n".join([LINES[0], line, LINES[2]]) + "\n")
    found = read_results(path, finished=finished)
    assert next(found).frame_id == 0
    with pytest.raises(DataError, match=rf"camera\.jsonl, line 2 {said}"):
        next(found)


@pytest.mark.parametrize("line", ["\xff\xfe", '{"schema": 1, "x": "\xff"}', "\0" * 40])
def test_bytes_that_are_no_text(line: str) -> None:
    with pytest.raises(DataError, match="the stream of results, line 1 is no result"):
        read(line.encode("latin-1") + b"\n")


@pytest.mark.parametrize("end", [1, 2, *range(5, len(LINES[2]), 16), len(LINES[2]) - 1])
def test_a_torn_last_line_is_left_out_and_said(end: int, caplog: pytest.LogCaptureFixture) -> None:
    text = "\n".join([*LINES[:2], LINES[2][:end]])
    with caplog.at_level(logging.WARNING):
        assert [result.frame_id for result in read(text)] == [0, 1]
    assert caplog.messages == [
        "the stream of results, line 3 is unfinished and left out: the run was killed, or is still writing",
    ]
    with pytest.raises(DataError, match="line 3 is unfinished: the run did not end well"):
        read(text, finished=True)


def test_zeros_at_the_end_as_a_power_cut_leaves_them(caplog: pytest.LogCaptureFixture) -> None:
    assert len(read(LINES[0] + "\n" + "\0" * 4000)) == 1
    assert "line 2 is unfinished" in caplog.text


@pytest.mark.parametrize("line", [changed(schema=2), changed(frame_id=None), "[1]"])
def test_a_last_line_that_is_whole_but_no_result_is_refused(line: str) -> None:
    with pytest.raises(DataError, match=r"line 2 (has schema 2|is no result)"):
        read(LINES[0] + "\n" + line)


def test_a_line_without_end_takes_no_memory_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MOST_LINE_BYTES", 1000)
    stream = io.BytesIO(LINES[0].encode() + b"\n" + b"x" * 100_000)
    with pytest.raises(DataError, match="line 2 is longer than 1,000 bytes"):
        list(read_results(stream))
    assert stream.tell() < 2000


@pytest.mark.parametrize("path", ["nowhere.jsonl", "a\0b", "."])
def test_a_file_that_cannot_be_opened(tmp_path: Path, path: str) -> None:
    with pytest.raises(DataError, match=r"cannot be read: .*; give the file that"):
        list(read_results(tmp_path / path))


def test_text_of_another_encoding_is_told() -> None:
    stream = io.TextIOWrapper(io.BytesIO(b"\xff\xff\n"), encoding="utf-8")
    with pytest.raises(DataError, match="line 1 cannot be read: 'utf-8' codec"):
        list(read_results(stream))


def test_results_come_while_the_run_is_writing() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as stream, open(writing, "w") as pipe:
        found = read_results(stream)
        for number, line in enumerate(LINES):
            print(line, file=pipe, flush=True)
            assert next(found).frame_id == number


def test_an_error_of_who_takes_results_stays_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(LINES[0])
    found = read_results(tmp_path / "x")
    next(found)
    with pytest.raises(OSError, match="mine"):
        found.throw(OSError("mine"))


def test_the_loops_own_output_is_read(bundle_path: Path, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(folder)
    pixels = b"\0\0\xff" * 64
    with open(folder + b"/red.ppm", "wb") as file:
        file.write(b"P6 8 8 255\n" + pixels)
    command = [sys.executable, "-m", "edgedistill.runtime", "camera", str(bundle_path), "--output", "jsonl", "--source", folder]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = read(done.stdout, finished=True)
    assert (found.frame_id, found.top_k[0].label) == (0, "blue")
    assert found.source.name.endswith("\\udcff")
