"""Which way of quantizing is kept, and what is said of the others: a table of outcomes with a fake bench."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgedistill.bundle import Speed
from edgedistill.convert import select
from edgedistill.convert.audit import Audit, Finding
from edgedistill.convert.parity import LayerError, Rung
from edgedistill.convert.quantize import Work
from edgedistill.convert.select import Search, Way, breaking, ways
from edgedistill.convert.steps import Steps
from edgedistill.errors import ConvertError, ParityError
from edgedistill.recipe import Export

WAYS = [Way("trained", "static_int8"), Way("trained", "static_int8_float_islands"), Way("trained", "weight_only_int8")]
WORK = Work(graph=SimpleNamespace(layers={}), fp32=Path("x"), ranges={}, pixels_nhwc=np.empty(0))
SPEED = Speed(p50_ms=1.0, ratio_to_fp32=1.0, ratio_interval=(0.9, 1.1), threads=1, measured_on="a fake")


@dataclass
class Outcome:
    """What a way is to give: bytes of the file, or an error of the quantizer; its drop; whether it is fast."""

    content: bytes = b"file"
    drop: float = 0.0
    fast: bool = True
    error: str | None = None


@dataclass
class FakeBench:
    """Measures as the table says."""

    outcomes: dict[str, Outcome]
    measured: list[str] = field(default_factory=list)
    steps: Steps = field(default_factory=lambda: Steps(lambda text: None))
    job: Any = field(default_factory=lambda: SimpleNamespace(name="net"))

    def measure(self, path: Path, *, quantization: str, student: str) -> Any:
        self.measured.append(quantization)
        outcome = self.outcomes[quantization]
        finding = Finding("split", "it runs in 20 parts", "another student", fails=True)
        audit = Audit(path.name, 1, {}, SPEED, "none", () if outcome.fast else (finding,))
        return SimpleNamespace(path=path, rung=rung(path.name, outcome.drop), audit=audit)


def rung(file: str, drop: float) -> Rung:
    ok = drop <= 0.005
    return Rung(file, "int8", 256, 1.0, 0.9, 0.9, 0.9 - drop, (0.8, 0.95), -drop, drop, (drop - 0.01, drop + 0.01), "drop <= 0.50%", ok)


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Return a function that runs a search over the table of outcomes."""

    def run(*outcomes: Outcome, tried: list[Way] | None = None) -> tuple[Search, FakeBench, Any]:
        chosen = tried or WAYS[: len(outcomes)]
        table = {way.quantization: outcome for way, outcome in zip(chosen, outcomes, strict=True)}

        def quantize(kind: str, name: str, work: Work, path: Path) -> None:
            if table[name].error:
                raise ConvertError(table[name].error)
            path.write_bytes(table[name].content + " ".join(work.islands).encode())

        monkeypatch.setattr(select, "quantize", quantize)
        monkeypatch.setattr(select, "breaking", lambda path, work: ("blocks.3.conv",))
        monkeypatch.setattr(select, "worst_layers", lambda *args: [LayerError("blocks.3.conv", 4.2, 30.0)])
        search, bench = Search("tflite", tmp_path / "tflite"), FakeBench(table)
        return search, bench, search.run(chosen, SimpleNamespace(work=lambda student, kind: WORK), bench)

    return run


@pytest.mark.parametrize(
    ("outcomes", "kept", "verdicts"),
    [
        ([Outcome(b"a")], 0, ["kept"]),
        ([Outcome(b"a"), Outcome(b"b")], 0, ["kept"]),
        ([Outcome(b"a", fast=False), Outcome(b"b")], 1, ["dropped: it runs in 20 parts", "kept"]),
        ([Outcome(b"a", drop=0.02), Outcome(b"b")], 1, ["dropped: loses 2.00% of accuracy, allowed is drop <= 0.50%", "kept"]),
        ([Outcome(b"a", drop=0.005), Outcome(b"b")], 0, ["kept"]),
        ([Outcome(error="no such operator"), Outcome(b"b")], 1, ["dropped: no such operator", "kept"]),
        (
            [Outcome(b"a", drop=0.02), Outcome(b"a"), Outcome(b"c")],
            2,
            ["dropped: loses 2.00%", "dropped: the same file as static_int8", "kept"],
        ),
        (
            [Outcome(b"a", drop=0.02), Outcome(b"b", fast=False), Outcome(b"c", fast=False)],
            1,
            ["dropped: loses 2.00%", "kept: answers rightly; no way is also fast", "dropped: it runs in 20 parts"],
        ),
    ],
)
def test_the_first_way_that_is_right_and_fast_is_kept(searched, outcomes: list[Outcome], kept: int, verdicts: list[str]) -> None:
    search, _, measured = searched(*outcomes)
    assert [attempt.kept for attempt in search.attempts] == [index == kept for index in range(len(search.attempts))]
    for attempt, verdict in zip(search.attempts, verdicts, strict=True):
        assert attempt.verdict.startswith(verdict)
    assert measured.path.read_bytes() == outcomes[kept].content
    assert search.kept is measured


def test_nothing_is_measured_after_the_first_good_way(searched) -> None:
    _, bench, _ = searched(Outcome(b"a", fast=False), Outcome(b"b"), Outcome(b"c"))
    assert bench.measured == ["static_int8", "static_int8_float_islands"]


def test_a_file_that_was_already_dropped_is_not_measured_again(searched) -> None:
    _, bench, _ = searched(Outcome(b"a", fast=False), Outcome(b"a"), Outcome(b"c"))
    assert bench.measured == ["static_int8", "weight_only_int8"]


def test_a_single_way_is_kept_though_it_is_slow(searched) -> None:
    search, _, _ = searched(Outcome(b"a", fast=False))
    assert [attempt.verdict for attempt in search.attempts] == ["kept"]


def test_a_single_way_that_cannot_be_written_says_why(searched) -> None:
    with pytest.raises(ConvertError, match="no such operator"):
        searched(Outcome(error="no such operator"))


def test_where_all_are_wrong_the_error_names_each_and_the_worst_layers_of_the_best(searched) -> None:
    with pytest.raises(ParityError, match=r"static_int8 of the trained student loses 3.00%; static_int8_float_islands .* 2.00%") as caught:
        searched(Outcome(b"a", drop=0.03), Outcome(b"b", drop=0.02))
    assert "--int8 qad" in str(caught.value)
    assert "blocks.3.conv: 4.2 dB (30.0 dB before it)" in caught.value.table


def test_where_nothing_can_be_written_the_last_reason_is_told(searched) -> None:
    with pytest.raises(ConvertError, match="no way of quantizing tflite could be written: dropped: b; export without int8"):
        searched(Outcome(error="a"), Outcome(error="b"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"int8": "qad"}, [("quantization_aware", "static_int8_float_islands")]),
        ({"int8": "float16"}, [("trained", "float16")]),
        (
            {"int8": True},
            [
                ("trained", "static_int8"),
                ("trained", "static_int8_float_islands"),
                ("equalized", "static_int8_float_islands"),
                ("trained", "int16_activations"),
                ("trained", "weight_only_int8"),
                ("trained", "float16"),
            ],
        ),
        (
            {"int8": "auto", "equalize": False},
            [
                ("trained", "static_int8"),
                ("trained", "static_int8_float_islands"),
                ("trained", "int16_activations"),
                ("trained", "weight_only_int8"),
                ("trained", "float16"),
            ],
        ),
    ],
)
def test_ways_in_their_order(settings: dict, expected: list[tuple[str, str]]) -> None:
    assert [way[:2] for way in ways(Export(**settings), "tflite")] == expected


def test_layers_that_break_parity_stay_float_in_a_second_try(searched) -> None:
    search, bench, _ = searched(Outcome(b"a", drop=0.02), Outcome(b"b", drop=0.02), Outcome(b"c"))
    assert bench.measured == ["static_int8", "static_int8_float_islands", "static_int8_float_islands", "weight_only_int8"]
    assert [attempt.islands for attempt in search.attempts] == [(), (), ("blocks.3.conv",), ()]


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([("a.conv", 10, 30), ("b.conv", 25, 28)], ("a.conv", "b.conv")),
        ([("b.conv", 5, 40), ("a.conv", 10, 30)], ("a.conv", "b.conv")),
        ([("a", 0, 60), ("a.conv", 10, 30)], ("a.conv",)),
        ([(f"c.{i}", i, 50) for i in range(7)], ("c.0", "c.1", "c.2", "c.3", "c.4")),
        ([("b.conv", 40, float("inf")), ("a.conv", 5, 6)], ("a.conv", "b.conv")),
    ],
)
def test_which_layers_break(errors: list, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a", "a.conv", "b.conv", *(f"c.{i}" for i in range(7))]
    work = replace(WORK, graph=SimpleNamespace(layers={name: name for name in names}))
    monkeypatch.setattr(select.parity, "worst_layers", lambda path, work, count: [LayerError(*error) for error in errors])
    assert breaking(Path("x"), work) == expected
