"""The report's rows: every figure in its place, with its sign, and a dash where there is none."""

from __future__ import annotations

import msgspec
import pytest
import tiny_bundle

from edgedistill.bundle import ModelFile, Speed
from edgedistill.convert import report
from edgedistill.convert.job import Attempt

SPEED = Speed(p50_ms=1.2345, ratio_to_fp32=0.934, ratio_interval=(0.9, 0.95), threads=1, measured_on="a CPU")


def model(**changes: object) -> ModelFile:
    return msgspec.structs.replace(tiny_bundle.entry(tiny_bundle.DATA / "tiny-fp32.tflite"), **changes)


def cell(header: str, **changes: object) -> str:
    (row,) = report.rows([model(**changes)])
    return row[report.HEADERS.index(header)]


@pytest.mark.parametrize(
    ("header", "changes", "text"),
    [
        ("size", {"bytes": 1_234_567}, "1,235 kB"),
        ("parts", {"partitions": None}, "–"),
        ("parts", {"partitions": 1}, "1"),
        ("parts", {"partitions": 20, "outside": {"HARD_SWISH": 19}}, "20 + 19"),
        ("same answers", {"agreement": 0.98764}, "98.76 %"),
        ("same answers", {"agreement": None}, "–"),
        ("accuracy (95 %)", {"accuracy": 0.885, "accuracy_interval": (0.87, 0.898)}, "88.50 % (87.0 to 89.8)"),
        ("against torch (95 %)", {"drop": 0.0035, "drop_interval": (-0.0019, 0.0093)}, "-0.35 (-0.93 to +0.19)"),
        ("against torch (95 %)", {"drop": 0.0, "drop_interval": (0.0, 0.0)}, "+0.00 (+0.00 to +0.00)"),
        ("against torch (95 %)", {"drop": -0.002, "drop_interval": (-0.004, 0.001)}, "+0.20 (-0.10 to +0.40)"),
        ("as the teacher", {"teacher_agreement": None}, "–"),
        ("p50 ms", {"speed": None}, "–"),
        ("p50 ms", {"speed": SPEED}, "1.23"),
        ("to fp32", {"speed": SPEED}, "0.93"),
        ("to fp32", {"speed": msgspec.structs.replace(SPEED, ratio_to_fp32=None, ratio_interval=None)}, "–"),
    ],
)
def test_cells(header: str, changes: dict, text: str) -> None:
    assert cell(header, **changes) == text


def test_an_attempt_that_was_never_written_has_dashes() -> None:
    attempt = Attempt("tflite", "equalized", "static_int8", kept=False, verdict="dropped: no such operator | really")
    (row,) = report.tried([attempt])
    assert row == ["tflite", "static_int8, equalized", "–", "–", "–", "dropped: no such operator | really"]
    assert len(row) == len(report.TRIED)


def test_a_bar_in_a_text_does_not_break_the_table() -> None:
    assert report.table(("a",), [["x | y"]]).splitlines()[-1] == "| x / y |"
