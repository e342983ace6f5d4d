"""Operators outside of the delegate: real files whose parts are known, cut out and timed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import audit_files
import numpy as np
import pytest

from edgedistill.convert.audit import outside as module
from edgedistill.convert.audit.outside import Outside, Parts, only, outside, parts
from edgedistill.convert.audit.speed import Limits
from edgedistill.errors import ConvertError

FEW = Limits(seconds=0.0, fewest=2, most=2, burst=2)


def interpreter(content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    opened = Interpreter(model_content=content, num_threads=1)
    opened.allocate_tensors()
    return opened


@pytest.mark.parametrize("source", [audit_files.FP32, audit_files.INT8])
def test_a_file_that_runs_as_a_whole_has_one_part_and_nothing_outside(source: Path) -> None:
    found = parts(source)
    assert (found.partitions, found.outside) == (1, ())
    assert found.operators["CONV_2D"] == 1
    assert outside(source, found, limits=FEW) == {}


@pytest.mark.parametrize(
    ("source", "count", "partitions", "names"),
    [
        (audit_files.INT8, 1, 2, ["HARD_SWISH"]),
        (audit_files.INT8, 3, 2, ["HARD_SWISH"] * 3),  # they follow one another: two parts in front and behind
        (audit_files.FP32, 2, 1, []),  # in float XNNPACK has it
    ],
)
def test_hard_swish_in_8_bits_cuts_the_graph(tmp_path: Path, source: Path, count: int, partitions: int, names: list[str]) -> None:
    found = parts(audit_files.with_hard_swish(source, tmp_path / "x.tflite", count=count))
    assert found.partitions == partitions
    assert [name for _, name in found.outside] == names
    assert found.operators["HARD_SWISH"] == count


def test_operators_outside_are_counted_and_timed_by_name(tmp_path: Path) -> None:
    path = audit_files.with_hard_swish(audit_files.INT8, tmp_path / "x.tflite", count=3)
    found = outside(path, parts(path), limits=FEW)
    assert list(found) == ["HARD_SWISH"]
    assert found["HARD_SWISH"].number == 3
    assert 0 <= found["HARD_SWISH"].share <= 1


def test_shares_are_the_groups_times_less_the_calls_and_the_costliest_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The whole takes 10 ms, a call 1, the group of A 3, that of B 6, that of C less than a call: 20 %, 50 %, nothing."""
    cut: list[list[int]] = []

    def cut_out(path: Path, indices: list[int]) -> bytes:
        cut.append(list(indices))
        return b""

    class Opened:
        invoke = None

    monkeypatch.setattr(module, "only", cut_out)
    monkeypatch.setattr(module, "_interpreter", lambda model, *, delegate=True: Opened())
    monkeypatch.setattr(module, "interleaved", lambda runs, *, limits: np.array([10.0, 1, 3, 6, 0.5])[:, None, None] * np.ones((1, 4, 2)))
    found = outside(tmp_path / "x.tflite", Parts(3, ((0, "A"), (4, "B"), (5, "A"), (9, "C")), {}))
    assert list(found.items()) == [("B", Outside(1, 0.5)), ("A", Outside(2, 0.2)), ("C", Outside(1, 0.0))]
    assert sorted(cut) == [[], [0, 5], [4], [9]]


def test_what_is_cut_out_computes_what_it_did_in_the_file(tmp_path: Path) -> None:
    path = audit_files.with_hard_swish(audit_files.INT8, tmp_path / "x.tflite", count=2)
    cut = interpreter(only(path, [index for index, _ in parts(path).outside]))
    taken, given = cut.get_input_details(), cut.get_output_details()
    assert [len(taken), len(given)] == [1, 2]  # the second one reads the first, and both are kept
    stored = np.arange(-128, 128, dtype=np.int8)
    pixels = np.resize(stored, taken[0]["shape"])
    cut.set_tensor(taken[0]["index"], pixels)
    cut.invoke()
    scale, zero_point = taken[0]["quantization"]
    real = scale * (pixels.astype(np.float64) - zero_point)
    expected = real * np.clip(real + 3, 0, 6) / 6
    once = scale * (cut.get_tensor(given[0]["index"]).astype(np.float64) - zero_point)
    assert np.abs(once - np.clip(expected, scale * (-128 - zero_point), scale * (127 - zero_point))).max() <= scale


def test_constants_of_what_is_cut_out_come_along(tmp_path: Path) -> None:
    cut = interpreter(only(audit_files.FP32, [3]))  # the convolution, with its weights
    assert [list(one["shape"]) for one in cut.get_input_details()] == [[1, 14, 18, 3]]
    cut.set_tensor(cut.get_input_details()[0]["index"], np.zeros((1, 14, 18, 3), np.float32))
    cut.invoke()
    assert np.allclose(cut.get_tensor(cut.get_output_details()[0]["index"]), 0.1)  # its bias


def test_a_file_without_operators_gives_back_its_input() -> None:
    empty = interpreter(only(audit_files.FP32, []))
    taken, given = empty.get_input_details(), empty.get_output_details()
    assert [one["index"] for one in taken] == [one["index"] for one in given]
    empty.invoke()


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.tflite"
    path.write_bytes(b"TFL3" * 10)
    with pytest.raises(ConvertError, match=r"LiteRT refuses broken.tflite"):
        parts(path)
