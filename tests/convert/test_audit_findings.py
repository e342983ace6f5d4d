"""From measurements to causes and remedies, as a table: what is found, what it says, and whether it fails the gate."""

from __future__ import annotations

from typing import Any

import pytest

from edgedistill.bundle import Speed
from edgedistill.convert.audit.findings import Finding, Measurements, findings, shown
from edgedistill.convert.audit.machine import Machine
from edgedistill.convert.audit.outside import Outside
from edgedistill.convert.audit.target import read_target

AVX2 = Machine("AMD EPYC", "x86_64", "AVX2", ())
A76 = Machine("Pi 5", "aarch64", "NEON", ("NEON dotprod",))
SWISHES = {"HARD_SWISH": Outside(19, 0.41)}


def speed(ratio: float, low: float, high: float) -> Speed:
    return Speed(p50_ms=1.0, ratio_to_fp32=ratio, ratio_interval=(low, high), threads=1, measured_on="x")


FAST = speed(0.5, 0.48, 0.52)


def find(machine: Machine = AVX2, target: str = "arm", **changes: Any) -> tuple[Finding, ...]:
    fields = {"partitions": 1, "outside": {}, "operators": {}, "quantization": "static_int8", "speed": FAST}
    return findings(Measurements(**(fields | changes)), target=read_target(target), machine=machine)


def test_a_file_that_is_fast_and_whole_has_none() -> None:
    assert find() == ()
    assert find(partitions=None) == ()


@pytest.mark.parametrize("machine", [AVX2, A76])
def test_parts_fail_on_every_machine_and_name_their_operators(machine: Machine) -> None:
    (found,) = find(machine, partitions=20, outside=SWISHES)
    assert (found.kind, found.fails) == ("split", True)
    assert "20 parts, because 19 HARD_SWISH (41 % of the time)" in found.cause
    assert "static_int8_float_islands" in found.remedy
    assert "mobilenetv4_conv_small" in found.remedy


def test_a_file_of_which_nothing_is_delegated_fails() -> None:
    (found,) = find(partitions=0, outside={"CONV_2D": Outside(42, 0.97)})
    assert (found.kind, found.fails) == ("split", True)
    assert "XNNPACK runs no part of the graph" in found.cause


@pytest.mark.parametrize(
    ("target", "machine", "fails"),
    [("arm", AVX2, False), ("here", AVX2, True), ("arm", A76, True), ("here", A76, True)],
)
def test_slower_fails_only_where_the_machine_is_like_the_target(target: str, machine: Machine, fails: bool) -> None:
    (found,) = find(machine, target, speed=speed(1.12, 1.10, 1.15))
    assert (found.kind, found.fails) == ("slower", fails)
    assert found.cause.startswith(f"1.12 times as long as fp32 (1.10 to 1.15) with {machine.instructions}")


@pytest.mark.parametrize(
    ("found", "slower"),
    [
        (speed(1.02, 0.99, 1.05), False),
        (speed(1.02, 1.0, 1.05), False),
        (speed(1.02, 1.001, 1.05), True),
        (Speed(p50_ms=1.0, ratio_to_fp32=None, ratio_interval=None, threads=1, measured_on="x"), False),
        (None, False),
    ],
)
def test_slower_is_what_has_its_whole_interval_above_1(found: Speed | None, slower: bool) -> None:
    assert bool(find(speed=found)) is slower


@pytest.mark.parametrize(
    ("machine", "changes", "causes", "remedy"),
    [
        (AVX2, {}, ["without dot products"], "run fp32 on CPUs like this one"),
        (A76, {}, [], "a wider student"),
        (A76, {"operators": {"QUANTIZE": 19, "DEQUANTIZE": 20, "CONV_2D": 3}}, ["39 steps between 8 bits and float"], "a wider student"),
        (A76, {"outside": {"PADV2": Outside(1, 0.01)}}, ["outside of XNNPACK run 1 PADV2 (1 % of the time)"], "student.mean"),
        (AVX2, {"quantization": "weight_only_int8"}, ["weight_only_int8 computes in float"], "run fp32"),
        (AVX2, {"quantization": "float16"}, ["float16 computes in float"], "run fp32"),
        (AVX2, {"unfused": {"HardSwish": 19, "Mul": 2}}, ["without dot products", "in float stay 19 HardSwish, 2 Mul"], "run fp32"),
    ],
)
def test_causes_of_being_slower(machine: Machine, changes: dict[str, Any], causes: list[str], remedy: str) -> None:
    found = next(one for one in find(machine, speed=speed(1.2, 1.1, 1.3), **changes) if one.kind == "slower")
    for cause in causes:
        assert cause in found.cause
    assert (":" in found.cause) is bool(causes)
    assert remedy in found.remedy


@pytest.mark.parametrize(("share", "said"), [(0.005, False), (0.3, True)])
def test_operators_outside_of_the_one_part_are_worth_a_word_if_they_cost(share: float, said: bool) -> None:
    found = find(outside={"PADV2": Outside(1, share)})
    assert [one.kind for one in found] == (["outside"] if said else [])
    assert not any(one.fails for one in found)


def test_onnx_nodes_in_float_are_named() -> None:
    (found,) = find(partitions=None, unfused={"HardSwish": 19})
    assert (found.kind, found.fails) == ("float", False)
    assert found.cause == "onnxruntime leaves 19 HardSwish in float"


def test_the_gravest_comes_first() -> None:
    found = find(partitions=20, outside=SWISHES, speed=speed(1.5, 1.4, 1.6), unfused={"Mul": 1})
    assert [one.kind for one in found] == ["split", "slower", "float"]


def test_operators_are_shown_with_number_and_share() -> None:
    assert shown({"A": Outside(2, 0.256), "B": Outside(1, 0.0)}) == "2 A (26 % of the time), 1 B (0 % of the time)"
