"""From what was measured of a file to what is wrong with it: a cause and a remedy each, and whether it fails the gate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from edgedistill.bundle import Speed
from edgedistill.convert.audit.machine import Machine
from edgedistill.convert.audit.outside import Outside
from edgedistill.convert.audit.target import Target

#: Operators that hold 8-bit values in float, or bring them back.
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
#: How 8-bit values are computed with in float: smaller files, and no reason to be faster.
_IN_FLOAT = ("weight_only_int8", "float16")
#: The share of the time that operators outside of the delegate must take to be worth a word.
WORTH_SAYING = 0.02
#: What helps against an operator outside of the delegate.
_REMEDIES = {
    "HARD_SWISH": "keep it in float (--int8 static_int8_float_islands), or take a student without it (mobilenetv4_conv_small, mobilenetv2)",
    "PADV2": "train with one mean for all channels (student.mean = [0.5, 0.5, 0.5]), which needs no padding with a value",
    "AVERAGE_POOL_2D": "keep it in float (--int8 static_int8_float_islands), or pool with strided convolutions",
    "TRANSPOSE": "take a student that does not change its layout",
    "RESHAPE": "take a student that pools to 1x1 before its head",
}
_ANOTHER = "keep these operators in float (--int8 static_int8_float_islands), or take another student (mobilenetv4_conv_small, mobilenetv2)"


class Finding(NamedTuple):
    """Something that is not as it should be; `fails` says whether the speed gate is closed by it."""

    kind: Literal["split", "slower", "outside", "float"]
    cause: str
    remedy: str
    fails: bool


class Measurements(NamedTuple):
    """What the findings are drawn from; `operators` are those of the file by name, `unfused` the ONNX nodes left in float."""

    partitions: int | None
    outside: Mapping[str, Outside]
    operators: Mapping[str, int]
    quantization: str | None
    speed: Speed | None
    unfused: Mapping[str, int] = {}


def findings(found: Measurements, *, target: Target, machine: Machine) -> tuple[Finding, ...]:
    """Return all that is wrong, the gravest first."""
    return (
        *_split(found),
        *_slower(found, target=target, machine=machine),
        *_outside(found),
        *_unfused(found),
    )


def _split(found: Measurements) -> Iterator[Finding]:
    if found.partitions in (None, 1):
        return
    operators = shown(found.outside)
    if found.partitions == 0:
        cause = f"XNNPACK runs no part of the graph; outside of it: {operators}"
    else:
        cause = f"the graph runs in {found.partitions} parts, because {operators} run outside of XNNPACK; parts do not depend on the CPU"
    yield Finding("split", cause, _remedy(found.outside), True)


def _slower(found: Measurements, *, target: Target, machine: Machine) -> Iterator[Finding]:
    speed = found.speed
    if speed is None or speed.ratio_to_fp32 is None or speed.ratio_interval is None or speed.ratio_interval[0] <= 1:
        return
    low, high = speed.ratio_interval
    causes = list(_causes(found, machine))
    cause = f"{speed.ratio_to_fp32:.2f} times as long as fp32 ({low:.2f} to {high:.2f}) with {machine.instructions}"
    if causes:
        cause += ": " + "; ".join(causes)
    like = target.is_like(machine)
    yield Finding("slower", cause, _slower_remedy(found, machine, like=like), like)


def _causes(found: Measurements, machine: Machine) -> Iterator[str]:
    if found.quantization in _IN_FLOAT:
        yield f"{found.quantization} computes in float and makes a file smaller, not faster"
    elif not machine.int8:
        yield "without dot products an int8 multiplication takes this CPU no less time than a float one"
    if found.outside:
        yield f"outside of XNNPACK run {shown(found.outside)}"
    if conversions := sum(found.operators.get(name, 0) for name in _CONVERSIONS):
        yield f"{conversions} steps between 8 bits and float ({' and '.join(_CONVERSIONS)})"
    if found.unfused:
        yield f"in float stay {', '.join(f'{count} {name}' for name, count in found.unfused.items())}"


def _slower_remedy(found: Measurements, machine: Machine, *, like: bool) -> str:
    if found.outside:
        return _remedy(found.outside)
    if not like or not machine.int8:
        return "run fp32 on CPUs like this one, and judge int8 on the target: edgedistill compare-engines BUNDLE"
    return "take a wider student or a larger image, whose layers outweigh the conversions, or run fp32"


def _outside(found: Measurements) -> Iterator[Finding]:
    if found.partitions == 1 and sum(one.share for one in found.outside.values()) >= WORTH_SAYING:
        cause = f"{shown(found.outside)} run outside of XNNPACK, before or behind its one part"
        yield Finding("outside", cause, _remedy(found.outside), False)


def _unfused(found: Measurements) -> Iterator[Finding]:
    if found.unfused:
        nodes = ", ".join(f"{count} {name}" for name, count in found.unfused.items())
        remedy = "run the TFLite file, or take a student whose operators onnxruntime has in 8 bits (ReLU in place of hard-swish)"
        yield Finding("float", f"onnxruntime leaves {nodes} in float", remedy, False)


def shown(outside: Mapping[str, Outside]) -> str:
    """Return operators as '19 HARD_SWISH (41 % of the time)'."""
    return ", ".join(f"{one.number} {name} ({one.share:.0%} of the time)".replace("%", " %") for name, one in outside.items())


def _remedy(outside: Mapping[str, Outside]) -> str:
    costliest = next(iter(outside), "")
    return _REMEDIES.get(costliest, _ANOTHER)
