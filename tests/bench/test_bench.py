"""The benchmarks' own machinery: entries, interleaving, exit codes, and what a timed process is charged with."""

from __future__ import annotations

import itertools
import json
import sys
import threading
from pathlib import Path

import bundles
import conversion
import msgspec
import numpy as np
import process_start
import pytest
import run
import runtime_loop
import shipped
import timing
import tiny_bundle
import training_loop
import view_cache
from entry import Entry, at_most, interleave, median

from edgedistill import bundle, recipe
from edgedistill.convert.audit import Machine
from edgedistill.convert.audit.outside import Parts
from edgedistill.convert.audit.speed import Limits
from edgedistill.runtime import camera, open_engine
from edgedistill.runtime.camera import Classifier
from edgedistill.runtime.ending import CaptureSource


def entry(name: str = "a", *, ok: bool = True, bound: float | None = 2.0) -> Entry:
    return Entry(name=name, value=1.5, unit="ms", bound=bound, ok=ok, how="by hand")


@pytest.mark.parametrize(("value", "bound", "ok"), [(1.0, 2.0, True), (2.0, 2.0, True), (2.0001, 2.0, False), (1e9, None, True)])
def test_a_value_is_fine_up_to_its_bound_and_without_one_always(value: float, bound: float | None, ok: bool) -> None:
    found = at_most("x", value, bound=bound, unit="ms", how="…")
    assert (found.value, found.bound, found.ok) == (value, bound, ok)


def test_interleaving_runs_the_measures_in_turn_and_turns_the_order_round() -> None:
    calls: list[str] = []

    def measure(name: str) -> float:
        calls.append(name)
        return len(calls)

    values = interleave([lambda: measure("a"), lambda: measure("b")], rounds=3)
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert values == [[1, 4, 5], [2, 3, 6]]
    assert median(values[0]) == 4


def test_what_is_measured_again_takes_its_place_among_the_others(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    entries = {name: lambda name=name: [entry(name)] for name in ("a", "b")}
    run.main([], entries=entries, out=out)
    again = entry("a", ok=False)
    run.main(["a", "c"], entries=entries | {"a": lambda: [again], "c": lambda: [entry("c")]}, out=out)
    assert msgspec.json.decode(out.read_bytes(), type=run.Results).entries == [again, entry("b"), entry("c")]


@pytest.mark.parametrize(("oks", "code"), [([True, True], 0), ([True, False], 1), ([False], 1), ([], 0)])
def test_the_exit_code_says_whether_every_bound_holds(
    tmp_path: Path, oks: list[bool], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "results.json"
    entries = {f"e{i}": (lambda i=i, ok=ok: [entry(f"e{i}", ok=ok)]) for i, ok in enumerate(oks)}
    assert run.main(["--out", str(out)], entries=entries) == code
    tree = json.loads(out.read_text())
    assert tree["schema"] == 1
    assert [one["name"] for one in tree["entries"]] == list(entries)
    assert all(set(one) == {"name", "value", "unit", "bound", "ok", "how"} for one in tree["entries"])
    assert [path.name for path in out.parent.iterdir()] == ["results.json"]
    assert capsys.readouterr().out.count("NOT OK") == oks.count(False)


def test_only_the_named_benchmarks_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = {"a": lambda: [entry("a")], "b": lambda: [entry("b1"), entry("b2", bound=None)]}
    assert run.main(["b", "--out", str(tmp_path / "r.json")], entries=entries) == 0
    told = capsys.readouterr()
    assert [line.split()[0] for line in told.out.splitlines() if not line.startswith(" ")] == ["b1", "b2"]
    assert "for information" in told.out
    assert told.err == "b …\n"


def test_an_unknown_name_is_a_usage_error_that_lists_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run.main(["lop_overhead", "--out", str(tmp_path / "r.json")])
    assert stopped.value.code == 2
    assert "unknown benchmark lop_overhead; known: loop_overhead" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_benchmark_that_fails_leaves_the_old_results_alone(tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    run.main(["--out", str(out)], entries={"a": lambda: [entry()]})
    before = out.read_bytes()

    def broken() -> list[Entry]:
        raise RuntimeError("no bundle")

    with pytest.raises(RuntimeError, match="no bundle"):
        run.main(["--out", str(out)], entries={"a": broken})
    assert out.read_bytes() == before


def test_a_process_is_timed_to_its_first_line_and_to_its_end() -> None:
    took = process_start.timed([sys.executable, "-S", "-c", "import time; print('one', flush=True); time.sleep(0.4); print('two')"])
    assert took["first_line"] == "one\n"
    assert took["exit_code"] == 0
    assert took["total_s"] - took["first_line_s"] > 0.3


def test_a_process_is_charged_with_its_own_memory_only() -> None:
    ballast = np.ones(40_000_000)
    small = process_start.timed([sys.executable, "-S", "-c", "print('x')"])
    large = process_start.timed([sys.executable, "-S", "-c", "x = bytearray(b'x') * 100_000_000; print('x')"])
    assert ballast.nbytes == 320_000_000
    assert small["peak_rss_mb"] < 60
    assert large["peak_rss_mb"] - small["peak_rss_mb"] == pytest.approx(100, abs=10)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ([sys.executable, "-S", "-c", "import sys; print('x'); sys.exit('camera is gone')"], "exit code 1: camera is gone"),
        ([sys.executable, "-S", "-c", "pass"], "exit code 0: no output"),
        (["/nonexistent/program"], "cannot time /nonexistent/program"),
    ],
)
def test_a_process_that_fails_or_says_nothing_is_an_error(command: list[str], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        process_start.timed(command)


def test_the_first_of_the_repeated_runs_only_warms_up(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = iter(range(10))
    monkeypatch.setattr(process_start, "timed", lambda command: {"total_s": next(runs)})
    assert [took["total_s"] for took in process_start.repeat(["x"], runs=3)] == [1, 2, 3]


@pytest.mark.parametrize(("bare_ms", "allowed"), [(0.5, 0.3), (3.0, 0.3), (5.0, 0.5), (40.0, 4.0)])
def test_the_loop_may_add_a_tenth_or_three_tenths_of_a_millisecond(bare_ms: float, allowed: float) -> None:
    assert runtime_loop.allowed_ms(bare_ms) == pytest.approx(allowed)


def test_what_the_loop_adds_is_compared_within_blocks() -> None:
    calls = itertools.count()

    def speed() -> float:
        """The machine is twice as slow in a third of the blocks."""
        return 2.0 if next(calls) // (2 * runtime_loop.ROUNDS) % 3 == 0 else 1.0

    added_ms, bare_ms = runtime_loop.added_and_bare_ms(lambda: 5.5 * speed(), lambda: 5.0 * speed())
    assert (added_ms, bare_ms) == (0.5, 5.0)


@pytest.mark.parametrize("ahead", [True, False])
def test_frames_from_memory_go_through_the_real_loop(tmp_path: Path, ahead: bool) -> None:
    loaded = bundle.load(tiny_bundle.make(tmp_path / "tiny"))
    engine = timing.prepare(open_engine(loaded, "tflite-int8", threads=1), loaded, warmup=1)
    assert timing.invoke_ms(engine) > 0
    classify = Classifier(loaded, engine)
    source = CaptureSource(runtime_loop.MemoryCapture(timing.frames(2)), ahead=classify.ahead() if ahead else None)
    with source:
        turns = camera.run(classify, source)
        seen = [next(turns) for _ in range(5)]
        assert runtime_loop.time_turn_ms(turns) > 0
    assert all((frame.prepared is not None) == ahead for frame, _ in seen)
    assert [frame.id for frame, _ in seen] == [result.frame_id for _, result in seen] == [0, 1, 2, 3, 4]
    assert seen[0][1].top_k == seen[2][1].top_k


@pytest.mark.parametrize(
    ("on", "said", "bound"),
    [
        (Machine("Pi 5", "aarch64", "NEON", ("NEON dotprod", "NEON i8mm")), "NEON with NEON dotprod, NEON i8mm", 1.0),
        (Machine("AMD", "x86_64", "AVX2", ()), "AVX2 without int8 dot products (no VNNI)", None),
    ],
)
def test_the_verdict_on_int8_names_the_instruction_set_and_is_bounded_only_with_dot_products(
    tmp_path: Path, on: Machine, said: str, bound: float | None
) -> None:
    loaded = bundle.load(tiny_bundle.make(tmp_path / "tiny"))
    found = shipped.compare(loaded, limits=Limits(seconds=0, fewest=6), on=on)
    assert f"the verdict is about {said}, other boards differ" in found.how
    assert (found.name, found.bound, found.unit) == ("int8_vs_fp32_latency tiny", bound, "ratio")
    assert "6 interleaved rounds" in found.how
    assert found.value > 0


def test_only_bundles_with_both_precisions_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("both", "small"):
        tiny_bundle.make(tmp_path / name)
    loaded = bundle.load(tmp_path / "small")
    kept = [model for model in loaded.manifest.files if model.file != "tiny-fp32.tflite"]
    bundle.write_manifest(loaded.path, msgspec.structs.replace(loaded.manifest, name="small", files=kept))
    monkeypatch.setattr(shipped, "shipped", lambda: [tmp_path / "both", tmp_path / "small"])
    monkeypatch.setattr(shipped, "compare", lambda loaded: entry(loaded.manifest.name))
    assert [found.name for found in shipped.int8_vs_fp32_latency()] == ["tiny"]


def test_every_shipped_tflite_file_must_run_in_one_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "shipped", lambda: [tiny_bundle.make(tmp_path / "tiny")])
    found = shipped.partitions()
    assert {one.name: (one.value, one.ok) for one in found} == {
        "partitions tiny-int8.tflite": (1.0, True),
        "partitions tiny-fp32.tflite": (1.0, True),
    }
    for number, outside in ((0, ()), (3, ((1, "HARD_SWISH"),))):
        monkeypatch.setattr(shipped, "parts", lambda path, number=number, outside=outside: Parts(number, outside, {}))
        assert not any(one.ok for one in shipped.partitions())
    assert "outside of them HARD_SWISH" in shipped.partitions()[0].how


def test_a_conversion_s_time_is_told_as_a_whole_and_by_step() -> None:
    whole, *steps = conversion.entries({"writing": 4.0, "comparing": 1.5}, name="x")
    assert (whole.name, whole.value, whole.bound, whole.ok) == ("conversion_s", 5.5, None, True)
    assert [(step.name, step.value) for step in steps] == [("conversion_s writing", 4.0), ("conversion_s comparing", 1.5)]


def test_the_student_whose_conversion_is_timed_is_there() -> None:
    assert (conversion.STUDENT / "recipe.toml").is_file()


def test_the_shipped_bundle_goes_before_the_large_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "ROOT", tmp_path)
    monkeypatch.setattr(bundles, "large_bundle", lambda: tmp_path / "large")
    assert bundles.small_bundle() == tmp_path / "large"
    for name in ("b", "a"):
        tiny_bundle.make(tmp_path / "export" / name)
    assert bundles.small_bundle() == tmp_path / "export" / "a"


def test_the_large_bundle_is_built_once_and_anew_if_it_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Path] = []

    def build(folder: Path) -> None:
        built.append(tiny_bundle.make(folder))

    monkeypatch.setattr(bundles, "ROOT", tmp_path)
    monkeypatch.setattr(bundles, "OUT", tmp_path / "runs")
    monkeypatch.setattr(bundles, "_build", build)
    folder = bundles.large_bundle()
    assert bundles.large_bundle() == folder == tmp_path / "runs" / bundles.LARGE_NAME
    assert len(built) == 1
    (folder / "tiny-int8.tflite").write_bytes(b"cut short")
    bundles.large_bundle()
    assert len(built) == 2


def test_a_cached_step_is_held_against_what_is_possible() -> None:
    """Teacher 3, student 1: a speed-up of 4 is possible, 3.2 is demanded, so a cached step may take 1/3.2 of an online one."""
    step, reading = view_cache.entries(view_cache.Seconds(cached=1.2, online=4.0, student=1.0, teacher=3.0, reading=0.03), how="")
    assert (step.value, step.bound, step.ok) == (pytest.approx(0.3), pytest.approx(1 / 3.2), True)
    assert "gain 3.33 of 4.00 possible" in step.how
    assert (reading.value, reading.ok) == (pytest.approx(0.025), True)
    slow = view_cache.entries(view_cache.Seconds(cached=1.3, online=4.0, student=1.0, teacher=3.0, reading=0.07), how="")
    assert [entry.ok for entry in slow] == [False, False]


def test_the_cache_s_benchmark_takes_real_steps(tmp_path: Path) -> None:
    tiny = [f'{role}.model="python:tiny_network:make"' for role in ("student", "teacher")]
    wanted = recipe.decode(view_cache.RECIPE, overrides=[*tiny, f'cache.folder="{tmp_path}"', "data.train_limit=64"])
    step, reading = view_cache.measure(wanted, rounds=1)
    assert "64 answers of python:tiny_network:make" in step.how
    assert step.value > 0
    assert reading.value > 0


def test_the_training_loop_s_benchmark_takes_steps_of_both_loops_and_ends_its_thread() -> None:
    tiny = ['student.model="python:tiny_network:make"', "student.input_size=16", "data.train_limit=64"]
    wanted, before = recipe.decode(training_loop.RECIPE, overrides=tiny), threading.active_count()
    (found,) = training_loop.measure(wanted, blocks=1, rounds=2)
    assert found.name == "training_loop"
    assert found.value > -1
    assert "python:tiny_network:make at 16" in found.how
    assert threading.active_count() == before
