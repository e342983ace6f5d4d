"""The profile: every key that others read, the warm-up left out, the best thread count chosen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import tiny_bundle
from fakes import FakeEngine

from edgedistill import bundle
from edgedistill.errors import EngineError, MissingExtraError
from edgedistill.latency import STAGES
from edgedistill.runtime import engines
from edgedistill.runtime import profile as module
from edgedistill.runtime.camera import Classifier
from edgedistill.runtime.energy import EnergyOptions
from edgedistill.runtime.profile import ProfileOptions, as_text, measure, profile, sweep_counts
from edgedistill.runtime.status import Machine

FEW = ProfileOptions(runs=5, warmup=1, energy=None)
KEYS = {
    "schema",
    "file",
    "engine",
    "threads",
    "stages_ms",
    "fps",
    "peak_rss_mb",
    "first_result_s",
    "environment",
    "energy",
    "machine",
    "warning",
}


@pytest.mark.parametrize("file", tiny_bundle.FILES)
def test_every_key_is_there_and_is_json(bundle_path: Path, file: str) -> None:
    found = profile(bundle_path, msgspec.structs.replace(FEW, file=file, threads=1))
    assert set(found) >= KEYS
    assert (found["schema"], found["file"], found["threads"]) == (1, file, 1)
    assert found["engine"] == ("onnxruntime" if file.endswith("onnx") else "litert")
    assert tuple(found["stages_ms"]) == STAGES
    for stage in STAGES:
        p50, p90, p99, highest = (found["stages_ms"][stage][key] for key in ("p50", "p90", "p99", "max"))
        assert 0 <= p50 <= p90 <= p99 <= highest
    assert found["fps"] > 0
    assert found["peak_rss_mb"] > 10
    assert found["first_result_s"] > 0
    assert found["environment"]["file_sha256"] == bundle.load(bundle_path).model(file).sha256
    assert json.loads(msgspec.json.encode(found)) == found


@pytest.mark.parametrize(
    ("cores", "counts"),
    [
        (1, [1]),
        (2, [1, 2]),
        (4, [1, 2, 3, 4]),
        (8, [1, 2, 3, 4, 5, 6, 7, 8]),
        (12, [1, 2, 3, 4, 5, 6, 7, 8, 12]),
        (40, [1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 40]),
    ],
)
def test_which_thread_counts_are_tried(cores: int, counts: list[int]) -> None:
    assert sweep_counts(cores) == counts


@pytest.mark.parametrize("fastest", [1, 2, 3])
def test_auto_takes_the_best_p90(bundle_path: Path, monkeypatch: pytest.MonkeyPatch, fastest: int) -> None:
    def fake_engine(loaded: bundle.Bundle, file: str | None, threads: int, *, engine: str | None) -> FakeEngine:
        made = FakeEngine(loaded.manifest.files[0], invoke_s=0.0 if threads == fastest else 0.02)
        made.threads = threads
        return made

    monkeypatch.setattr(module, "usable_cores", lambda: 3)
    monkeypatch.setattr(module, "open_engine", fake_engine)
    found = profile(bundle_path, msgspec.structs.replace(FEW, threads="auto"))
    assert found["threads"] == fastest
    assert [one["threads"] for one in found["sweep"]] == [1, 2, 3]
    assert min(found["sweep"], key=lambda one: one["total_ms"]["p90"])["threads"] == fastest
    assert found["stages_ms"]["total"] == found["sweep"][fastest - 1]["total_ms"]


def test_without_auto_there_is_one_count(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "usable_cores", lambda: 2)
    found = profile(bundle_path, FEW)
    assert [one["threads"] for one in found["sweep"]] == [found["threads"]] == [2]


def test_the_warm_up_runs_but_does_not_count(bundle_path: Path) -> None:
    loaded = bundle.load(bundle_path)
    engine = FakeEngine(loaded.manifest.files[0])
    real_invoke = engine.invoke

    def slow_at_first() -> None:
        engine.invoke_s = 0.05 if engine.invoked < 3 else 0.0
        real_invoke()

    engine.invoke = slow_at_first  # type: ignore[method-assign]
    found = measure(Classifier(loaded, engine), ProfileOptions(runs=4, warmup=3))
    assert engine.invoked == 7
    assert found.stages_ms["invoke"].p50 < 50


def test_the_rate_follows_from_the_latencies(bundle_path: Path) -> None:
    loaded = bundle.load(bundle_path)
    found = measure(Classifier(loaded, FakeEngine(loaded.manifest.files[0], invoke_s=0.02)), FEW)
    assert 1 < found.fps <= 50
    assert found.stages_ms["invoke"].p50 >= 20


def test_frames_are_640_by_480_and_differ(bundle_path: Path) -> None:
    loaded = bundle.load(bundle_path)
    seen = []

    def classify(frame: object) -> object:
        seen.append(frame)
        return Classifier(loaded, FakeEngine(loaded.manifest.files[0]))(frame)  # type: ignore[arg-type]

    classify.engine = FakeEngine(loaded.manifest.files[0])  # type: ignore[attr-defined]
    measure(classify, FEW)  # type: ignore[arg-type]
    assert {frame.frame_bgr.shape for frame in seen} == {(480, 640, 3)}
    assert not np.array_equal(seen[0].frame_bgr, seen[1].frame_bgr)
    assert all(frame.capture_ms >= 0 for frame in seen)


@pytest.mark.parametrize(
    "options", [ProfileOptions(runs=0), ProfileOptions(warmup=-1), ProfileOptions(threads=0), ProfileOptions(threads=-1)]
)
def test_nonsense_is_refused(bundle_path: Path, options: ProfileOptions) -> None:
    with pytest.raises(EngineError):
        profile(bundle_path, options)


def test_a_missing_interpreter_says_what_to_install(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "installed_engines", dict)
    with pytest.raises(MissingExtraError, match=r"edgedistill\[litert\]"):
        profile(bundle_path, FEW)


def looks(*machines: Machine) -> Callable[[], Machine]:
    """Return a look at a machine that changes from one look to the next."""
    seen = iter(machines)
    return lambda: next(seen)


def test_the_machine_is_looked_at_before_and_after(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "machine_now", looks(Machine(50.0, [], 80.0), Machine(82.0, ["throttled now"], 90.0)))
    found = profile(bundle_path, FEW)
    assert found["machine"]["before"] == {"temperature_c": 50.0, "throttled": [], "rss_mb": 80.0}
    assert found["machine"]["after"]["throttled"] == ["throttled now"]
    assert "(throttled now, 82 degrees)" in found["warning"]
    text = as_text(found)
    assert "before: temperature 50.0 degrees; throttling: none\nafter: temperature 82.0 degrees; throttling: throttled now\n" in text
    assert text.splitlines()[-1].startswith("WARNING: these figures were taken while")


def test_a_machine_that_tells_nothing_is_not_warned_of(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "machine_now", lambda: Machine(None, None, None))
    found = profile(bundle_path, FEW)
    assert found["warning"] is None
    assert as_text(found).endswith("after: temperature unknown; throttling: unknown")
    assert "energy: not measurable here\n" in as_text(found)


def test_the_energy_of_a_frame_is_measured_by_a_file(bundle_path: Path, tmp_path: Path) -> None:
    (tmp_path / "watts").write_text("4.0")
    wanted = EnergyOptions(idle_s=0.01, busy_s=0.05, power_file=tmp_path / "watts")
    found = profile(bundle_path, msgspec.structs.replace(FEW, energy=wanted))
    assert found["energy"]["frames"] >= 1
    assert found["energy"]["busy_w"] == pytest.approx(4.0, rel=0.5)
    assert found["energy"]["joules_with_idle"] > 0
    assert "by file: whatever watts measures" in as_text(found)
    assert msgspec.json.decode(msgspec.json.encode(found)) == found
