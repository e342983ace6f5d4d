"""The whole audit: of the tiny bundle with real interpreters, and with engines whose speed is known."""

from __future__ import annotations

import shutil
from pathlib import Path

import audit_files
import msgspec
import numpy as np
import pytest
import tiny_bundle

from edgedistill import bundle
from edgedistill.bundle import Bundle, ModelFile
from edgedistill.convert.audit import Audit, Finding, Machine, Measuring, audit, check, read_target, verdict
from edgedistill.convert.audit.speed import Limits
from edgedistill.errors import AuditError

AVX2 = Machine("AMD EPYC", "x86_64", "AVX2", ())
VNNI = Machine("i5", "x86_64", "AVX2", ("AVX-VNNI",))
A76 = Machine("Pi 5", "aarch64", "NEON", ("NEON dotprod",))
FEW = Limits(seconds=0, fewest=6, most=6, burst=1)
ARM = read_target("arm")


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle.load(tiny_bundle.make(tmp_path_factory.mktemp("audit") / "tiny"))


@pytest.fixture
def split(loaded: Bundle, tmp_path: Path) -> Bundle:
    """Return a bundle whose int8 file has a hard-swish in 8 bits."""
    folder = Path(shutil.copytree(loaded.path, tmp_path / "split"))
    audit_files.with_hard_swish(audit_files.INT8, folder / "tiny-int8.tflite")
    return Bundle(folder, loaded.manifest)


class Timed:
    """An `Engine` that takes a known time on the clock that it shares."""

    name, version, threads = "fake", "1.0", 1
    now_ns = 0

    def __init__(self, model: ModelFile, ms: float) -> None:
        self.model, self.ms = model, ms
        self.pixels: np.ndarray | None = None

    def set_input(self, pixels_nhwc: np.ndarray) -> None:
        self.pixels = pixels_nhwc

    def invoke(self) -> None:
        assert self.pixels is not None
        Timed.now_ns += round(self.ms * 1e6)


def measuring(machine: Machine = AVX2) -> Measuring:
    return Measuring(limits=FEW, machine=machine, clock=lambda: Timed.now_ns)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Return the milliseconds of each file, to be set."""
    costs = dict.fromkeys(tiny_bundle.FILES, 1.0)
    monkeypatch.setattr(verdict, "open_engine", lambda loaded, file, threads: Timed(loaded.model(file), costs[file]))
    return costs


def int8_of(loaded: Bundle, timed: dict[str, float], *, ms: float, machine: Machine = AVX2, target: str = "arm") -> Audit:
    timed["tiny-int8.tflite"] = ms
    model, plain = loaded.model("tiny-int8.tflite"), loaded.model("tiny-fp32.tflite")
    return audit(loaded, model, plain=plain, target=read_target(target), how=measuring(machine))


def test_the_figures_of_a_fast_file(loaded: Bundle, timed: dict[str, float]) -> None:
    found = int8_of(loaded, timed, ms=0.4)
    assert (found.file, found.partitions, found.outside, found.findings, found.ok) == ("tiny-int8.tflite", 1, {}, (), True)
    assert (found.speed.p50_ms, found.speed.ratio_to_fp32, found.speed.ratio_interval) == (0.4, 0.4, (0.4, 0.4))
    assert found.speed.measured_on == "AMD EPYC, AVX2 without int8 dot products (no VNNI); fake 1.0"
    assert found.instructions == "AVX2 without int8 dot products (no VNNI)"
    assert "Raspberry Pi 5" in found.known
    msgspec.json.encode(found)


@pytest.mark.parametrize(
    ("machine", "target", "ok"),
    [(AVX2, "arm", True), (AVX2, "here", False), (VNNI, "arm", True), (A76, "arm", False)],
)
def test_a_slow_file_fails_where_the_verdict_is_about_the_target(
    loaded: Bundle, timed: dict[str, float], machine: Machine, target: str, ok: bool
) -> None:
    found = int8_of(loaded, timed, ms=1.5, machine=machine, target=target)
    assert [finding.kind for finding in found.findings] == ["slower"]
    assert found.ok is ok
    assert bool(found.known) is (machine is not A76 and target == "arm")


def test_the_fp32_file_itself_is_compared_with_nothing(loaded: Bundle, timed: dict[str, float]) -> None:
    found = audit(loaded, loaded.model("tiny-fp32.tflite"), plain=None, target=ARM, how=measuring())
    assert (found.speed.p50_ms, found.speed.ratio_to_fp32, found.speed.ratio_interval) == (1.0, None, None)
    assert (found.known, found.findings) == ("", ())


def test_a_split_file_fails_however_fast_it_is(split: Bundle, timed: dict[str, float]) -> None:
    found = int8_of(split, timed, ms=0.1)
    assert (found.partitions, found.ok) == (2, False)
    assert found.outside["HARD_SWISH"].number == 1
    assert "1 HARD_SWISH" in found.findings[0].cause


def test_onnx_has_no_parts(loaded: Bundle, timed: dict[str, float]) -> None:
    found = audit(loaded, loaded.model("tiny-fp32.onnx"), plain=None, target=ARM, how=measuring())
    assert (found.partitions, found.outside, found.arithmetic, found.findings) == (None, {}, "", ())


@pytest.mark.parametrize(
    ("machine", "said", "unsaid"),
    [
        (AVX2, "here, with AVX2 without int8 dot products (no VNNI): ", "with AVX-VNNI"),
        (VNNI, "here, with AVX2 with AVX-VNNI: ", "no VNNI"),
        (A76, "U8S8 with reduce_range", "here,"),
    ],
)
def test_how_an_onnx_file_multiplies_is_said_for_this_machine_and_for_arm(
    monkeypatch: pytest.MonkeyPatch, machine: Machine, said: str, unsaid: str
) -> None:
    from edgedistill.convert.onnx_file import kernels

    monkeypatch.setattr(verdict, "arithmetic", lambda path: kernels._REDUCED)
    found = verdict._arithmetic(Path("x.onnx"), machine)
    assert said in found
    assert unsaid not in found
    assert kernels._REDUCED.arm in found


def test_a_real_audit_of_every_file(loaded: Bundle) -> None:
    for file in tiny_bundle.FILES:
        model = loaded.model(file)
        plain = loaded.model("tiny-fp32.tflite") if model.precision == "int8" else None
        found = audit(loaded, model, plain=plain, target=read_target("here"), how=Measuring(limits=FEW))
        assert found.speed.p50_ms > 0
        if plain is not None:
            low, high = found.speed.ratio_interval or (0, 0)
            assert 0 < low <= (found.speed.ratio_to_fp32 or 0) <= high


@pytest.mark.parametrize(
    ("kinds", "file"),
    [([], None), (["outside", "float"], None), (["slower"], "b"), (["outside", "split"], "b"), (["slower", "split"], "b")],
)
def test_strict_allows_no_parts_and_nothing_slower_whatever_the_target_is(kinds: list[str], file: str | None) -> None:
    def judged(name: str, kinds: list[str]) -> Audit:
        findings = tuple(Finding(kind, f"the cause of {kind}", f"what helps against {kind}", False) for kind in kinds)  # type: ignore[arg-type]
        speed = bundle.Speed(p50_ms=1.0, ratio_to_fp32=None, ratio_interval=None, threads=1, measured_on="x")
        return Audit(name, 1, {}, speed, "AVX2", findings)

    audits = {"a": judged("a", []), "b": judged("b", kinds)}
    if file is None:
        check(audits)
        return
    first = next(kind for kind in kinds if kind in ("slower", "split"))
    with pytest.raises(AuditError, match=f"^{file}: the cause of {first}. Remedy: what helps against {first}; or export without --strict$"):
        check(audits)
