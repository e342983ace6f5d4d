"""Latencies on boards: estimated from what is published of one network, with the source said."""

from pathlib import Path

import pytest

from edgedistill.errors import RecipeError
from edgedistill.thinning.board import read_board

DEVICES = Path(__file__).parents[2] / "devices"

REFERENCE = """
[[reference]]
device = "x"
model = "{model}"
resolution = 224
precision = "{precision}"
engine = "{engine}"
threads = 1
latency_ms = {ms}
statistic = "p50"
source = "someone"
"""


def board(folder: Path, *references: str) -> str:
    (folder / "profile.toml").write_text('board = "A board"\ncores = 4\n' + "".join(references))
    return str(folder)


def reference(engine: str, ms: float, model: str = "mobilenet_v2", precision: str = "fp32") -> str:
    return REFERENCE.format(engine=engine, ms=ms, model=model, precision=precision)


@pytest.mark.parametrize(("name", "ms", "engine"), [("rpi4", 46.0, "XNNPACK"), ("rpi5", 10.89, "XNNPACK"), ("rpi-zero2w", 273.97, "ncnn")])
def test_shipped_boards_have_the_reference(name: str, ms: float, engine: str) -> None:
    found = read_board(str(DEVICES / name))
    assert found.reference.latency_ms == ms
    assert engine in found.reference.engine


def test_the_basis_says_what_was_quoted_and_measured() -> None:
    found = read_board(str(DEVICES / "rpi4"))
    assert found.factor(11.5) == 4.0
    text = found.basis(11.5)
    for part in ("estimates, not measurements", "times 4.00", "46 ms", "google/XNNPACK README", "threads: all", "11.50 ms here"):
        assert part in text


def test_the_engine_nearest_to_litert_is_quoted_and_other_rows_are_not(tmp_path: Path) -> None:
    rows = [reference("ncnn", 1), reference("XNNPACK", 2), reference("TFLite", 3), reference("LiteRT", 4, precision="int8")]
    assert read_board(board(tmp_path, *rows, reference("LiteRT", 5, model="mobilenet_v3_large"))).reference.latency_ms == 3


def test_without_the_reference_there_is_no_estimate(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no reference of mobilenet_v2 at 224 in fp32.*without a profile"):
        read_board(board(tmp_path, reference("ncnn", 9, precision="fp16")))


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "cannot be read .*devices/rpi4"), ("board = 3", "board = 3: expected"), ("[", "profile.toml: .*as a pattern")],
)
def test_a_folder_that_is_no_board(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "profile.toml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        read_board(str(tmp_path))
