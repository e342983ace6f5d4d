"""The audit itself: measure a file, say what is wrong with it and why, and on which instructions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgedistill.bundle import Bundle, ModelFile, Speed
from edgedistill.convert.audit.findings import Finding, Measurements, findings
from edgedistill.convert.audit.machine import Machine, this_machine
from edgedistill.convert.audit.outside import Outside, Parts, outside, parts
from edgedistill.convert.audit.speed import Clock, Limits, interleaved, ratio
from edgedistill.convert.audit.target import Target
from edgedistill.convert.onnx_file import arithmetic, unfused
from edgedistill.errors import AuditError
from edgedistill.runtime import open_engine
from edgedistill.runtime.engines import Engine

#: Findings that `export.strict` does not allow.
STRICT = ("split", "slower")


class Audit(NamedTuple):
    """What was measured of one file and what is wrong with it.

    Args:
        partitions: parts of the delegate; None for ONNX.
        outside: operators outside of the delegate by name, the costliest first.
        instructions: which instruction set the latencies are about.
        arithmetic: how an ONNX file multiplies 8-bit numbers, and what that means here and on ARM.
        known: what has been published about int8 on the target, where this machine cannot show it.
    """

    file: str
    partitions: int | None
    outside: Mapping[str, Outside]
    speed: Speed
    instructions: str
    findings: tuple[Finding, ...]
    known: str = ""
    arithmetic: str = ""

    @property
    def ok(self) -> bool:
        """Return whether the file passes the speed gate."""
        return not any(finding.fails for finding in self.findings)


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """How an audit measures; the defaults are for this machine, others for tests."""

    threads: int = 1
    limits: Limits = field(default_factory=Limits)
    machine: Machine = field(default_factory=this_machine)
    clock: Clock = time.perf_counter_ns


def audit(bundle: Bundle, model: ModelFile, *, plain: ModelFile | None, target: Target, how: Measuring | None = None) -> Audit:
    """Audit one file of a bundle.

    Args:
        plain: the fp32 file of the same format in the same bundle, which the latency is compared with; None for that file itself.

    Raises EngineError or MissingExtraError where the file cannot be run here.
    """
    how = how or Measuring()
    path = bundle.file_path(model.file)
    found = parts(path) if model.format == "tflite" else None
    beside = outside(path, found) if found is not None else {}
    speed = measure_speed(bundle, model, plain=plain, how=how)
    measurements = _measurements(path, model, found=found, beside=beside, speed=speed)
    return Audit(
        file=model.file,
        partitions=found.partitions if found is not None else None,
        outside=beside,
        speed=speed,
        instructions=how.machine.instructions,
        findings=findings(measurements, target=target, machine=how.machine),
        known=target.known(how.machine) if model.precision == "int8" else "",
        arithmetic=_arithmetic(path, how.machine) if model.format == "onnx" else "",
    )


def measure_speed(bundle: Bundle, model: ModelFile, *, plain: ModelFile | None, how: Measuring) -> Speed:
    """Time `invoke` of a file, in turn with that of the fp32 file."""
    engine = _ready(bundle, model, how)
    measured_on = f"{how.machine}; {engine.name} {engine.version}"
    if plain is None:
        taken = interleaved([engine.invoke], limits=_alone(how.limits), clock=how.clock)
        return Speed(p50_ms=float(np.median(taken)), ratio_to_fp32=None, ratio_interval=None, threads=how.threads, measured_on=measured_on)
    found = ratio(engine.invoke, _ready(bundle, plain, how).invoke, limits=how.limits, clock=how.clock)
    return Speed(
        p50_ms=found.p50_ms, ratio_to_fp32=found.ratio, ratio_interval=found.interval, threads=how.threads, measured_on=measured_on
    )


def check(audits: Mapping[str, Audit]) -> None:
    """Raise AuditError if a file is slower than fp32 here or runs in several parts, whatever the target is."""
    for file, found in audits.items():
        for finding in found.findings:
            if finding.kind in STRICT:
                raise AuditError(f"{file}: {finding.cause}. Remedy: {finding.remedy}; or export without --strict")


def _measurements(path: Path, model: ModelFile, *, found: Parts | None, beside: Mapping[str, Outside], speed: Speed) -> Measurements:
    if found is None:
        kernels = unfused(path)
        operators = {"QUANTIZE": kernels.conversions} if kernels.conversions else {}
        return Measurements(None, {}, operators, model.quantization, speed, kernels.floating)
    return Measurements(found.partitions, beside, found.operators, model.quantization, speed)


def _arithmetic(path: Path, machine: Machine) -> str:
    found = arithmetic(path)
    if found is None:
        return ""
    if machine.architecture != "x86_64":
        return f"{found.label}; {found.arm}"
    here = found.with_vnni if machine.int8 else found.without_vnni
    return f"{found.label}; here, with {machine.instructions}: {here}; on ARM: {found.arm}"


def _ready(bundle: Bundle, model: ModelFile, how: Measuring) -> Engine:
    """Return an engine with an input of noise: zeros could be computed faster than images."""
    engine = open_engine(bundle, model.file, how.threads)
    sides = (1, bundle.manifest.input.height, bundle.manifest.input.width, 3)
    engine.set_input(np.random.default_rng(0).integers(0, 256, sides, np.uint8))
    return engine


def _alone(limits: Limits) -> Limits:
    return Limits(seconds=min(limits.seconds, 0.5), fewest=limits.fewest, most=limits.most, burst=limits.burst)
