"""Comparing engines: turns and rounds on a clock that only the engines move, figures by hand, and one comparison of real files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import tiny_bundle

from edgedistill import bundle
from edgedistill.bundle import Bundle, ModelFile
from edgedistill.errors import EngineError
from edgedistill.runtime import compare_engines as module
from edgedistill.runtime.__main__ import main, parser
from edgedistill.runtime.compare_engines import CompareOptions, as_json, as_text, compare, compare_command, peak_rss_mb, thread_counts
from edgedistill.runtime.engines import open_engine
from edgedistill.runtime.status import Machine

FEW = CompareOptions(threads=[1], rounds=4, burst=3, memory=False)
INSTALLED = {"litert": "2.3.0", "onnxruntime": "1.32.0"}


class Clock:
    """Nanoseconds that pass only when somebody lets them."""

    def __init__(self) -> None:
        self.ns = 0
        self.log: list[tuple[str, int]] = []

    def __call__(self) -> int:
        return self.ns


class TimedEngine:
    """An `Engine` whose n-th run takes what `cost_ms` says."""

    version = "1.0"

    def __init__(self, model: ModelFile, *, name: str, threads: int, clock: Clock, cost_ms: Callable[[int], float]) -> None:
        self.model, self.name, self.threads = model, name, threads
        self._clock, self._cost_ms = clock, cost_ms
        self.runs = 0
        self.pixels: np.ndarray | None = None

    def set_input(self, pixels_nhwc: np.ndarray) -> None:
        self.pixels = pixels_nhwc

    def invoke(self) -> None:
        self._clock.log.append((self.model.file, self.threads))
        self._clock.ns += round(self._cost_ms(self.runs) * 1e6)
        self.runs += 1

    def logits(self) -> np.ndarray:
        return np.zeros(3, np.float32)

    def run(self, pixels_nhwc: np.ndarray) -> np.ndarray:
        self.set_input(pixels_nhwc)
        self.invoke()
        return self.logits()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def loaded(bundle_path: Path) -> Bundle:
    return bundle.load(bundle_path)


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> dict[tuple[str, int], Callable[[int], float]]:
    """Return the cost of each file at each thread count, 1 ms unless set; engines of it are opened in place of real ones."""
    table: dict[tuple[str, int], Callable[[int], float]] = {}

    def open_timed(loaded: Bundle, file: str, threads: int, *, engine: str) -> TimedEngine:
        cost = table.get((file, threads), lambda run: 1.0)
        return TimedEngine(loaded.model(file), name=engine, threads=threads, clock=clock, cost_ms=cost)

    monkeypatch.setattr(module, "open_engine", open_timed)
    monkeypatch.setattr(module, "installed_engines", lambda: INSTALLED)
    return table


def test_every_round_runs_all_in_turn_and_the_order_turns_round(loaded: Bundle, costs: dict, clock: Clock) -> None:
    compare(loaded, msgspec.structs.replace(FEW, rounds=2, burst=1), clock=clock)
    files = [file for file, _ in clock.log]
    once = [file for file in tiny_bundle.FILES for _ in range(2)]  # one run that is not counted, and one that is
    assert files == once + once[::-1]


def test_the_fastest_comes_first_and_has_ratio_1(loaded: Bundle, costs: dict, clock: Clock) -> None:
    costs["tiny-fp32.tflite", 1] = lambda run: 0.5
    costs["tiny-fp32.onnx", 1] = lambda run: 2.0
    found = compare(loaded, FEW, clock=clock)
    assert [(row.file, row.engine, row.ratio) for row in found.rows] == [
        ("tiny-fp32.tflite", "litert", 1.0),
        ("tiny-int8.tflite", "litert", 2.0),
        ("tiny-fp32.onnx", "onnxruntime", 4.0),
    ]
    assert [row.invoke_ms.p50 for row in found.rows] == [0.5, 1.0, 2.0]
    assert {row.spread for row in found.rows} == {0.0}
    assert found.bundle == "tiny"


def test_the_first_run_of_a_burst_does_not_count(loaded: Bundle, costs: dict, clock: Clock) -> None:
    costs["tiny-int8.tflite", 1] = lambda run: 90.0 if run % (FEW.burst + 1) == 0 else 3.0
    row = next(row for row in compare(loaded, FEW, clock=clock).rows if row.file == "tiny-int8.tflite")
    assert row.invoke_ms.max == 3.0


def test_the_spread_is_between_rounds_and_the_ratio_within_them(loaded: Bundle, costs: dict, clock: Clock) -> None:
    """The machine slows down threefold for a round: the medians are 1, 3, 1, 1 ms, their spread 2 ms of 1; the ratio stays 2."""
    runs_a_round = FEW.burst + 1

    def slow_round(run: int) -> float:
        return 3.0 if run // runs_a_round == 1 else 1.0

    for file in tiny_bundle.FILES:
        costs[file, 1] = lambda run, file=file: slow_round(run) * (2 if file.endswith("onnx") else 1)
    rows = {row.file: row for row in compare(loaded, FEW, clock=clock).rows}
    assert [rows[file].spread for file in tiny_bundle.FILES] == [2.0, 2.0, 2.0]
    assert rows["tiny-fp32.onnx"].ratio == 2.0
    assert rows["tiny-fp32.onnx"].invoke_ms.max == 6.0


def test_every_thread_count_is_a_row_of_its_own(loaded: Bundle, costs: dict, clock: Clock) -> None:
    costs["tiny-fp32.onnx", 3] = lambda run: 0.25
    found = compare(loaded, msgspec.structs.replace(FEW, threads=[3, 1]), clock=clock)
    assert len(found.rows) == 6
    assert (found.rows[0].file, found.rows[0].threads) == ("tiny-fp32.onnx", 3)


def test_inputs_are_noise_of_the_right_shape(loaded: Bundle, costs: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    engines, _ = module._open_all(loaded, [1])
    for engine in engines:
        assert engine.pixels.shape == (1, tiny_bundle.HEIGHT, tiny_bundle.WIDTH, 3)  # type: ignore[attr-defined]
        assert engine.pixels.std() > 50  # type: ignore[attr-defined]


def test_normalized_pixels_are_floats(loaded: Bundle) -> None:
    spec = msgspec.structs.replace(loaded.manifest.input, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))
    floats = [loaded.model("tiny-fp32.tflite")]
    changed = Bundle(loaded.path, msgspec.structs.replace(loaded.manifest, input=spec, files=floats))
    pixels = module.noise(changed)
    assert pixels.dtype == np.float32
    assert pixels.max() <= 1


def test_memory_is_asked_for_each_row(loaded: Bundle, costs: dict, clock: Clock) -> None:
    asked: list[tuple[str, int]] = []

    def memory(of: Bundle, engine: TimedEngine) -> float:
        asked.append((engine.model.file, engine.threads))
        return 40.0 + engine.threads

    found = compare(loaded, msgspec.structs.replace(FEW, threads=[1, 2], memory=True), clock=clock, memory=memory)
    assert sorted(asked) == sorted((file, threads) for file in tiny_bundle.FILES for threads in (1, 2))
    assert {row.threads: row.peak_rss_mb for row in found.rows} == {1: 41.0, 2: 42.0}
    silent = compare(loaded, FEW, clock=clock, memory=memory)
    assert {row.peak_rss_mb for row in silent.rows} == {None}


def test_an_engine_that_is_missing_or_refuses_is_left_out_with_its_reason(
    loaded: Bundle, costs: dict, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = module.open_engine

    def refusing(loaded: Bundle, file: str, threads: int, *, engine: str) -> object:
        if file == "tiny-int8.tflite":
            raise EngineError("needs tflite>=2.17")
        return timed(loaded, file, threads, engine=engine)

    monkeypatch.setattr(module, "open_engine", refusing)
    found = compare(loaded, FEW, clock=clock)
    assert [row.file for row in found.rows] == ["tiny-fp32.tflite", "tiny-fp32.onnx"]
    reasons = {(one.file, one.engine): one.reason for one in found.left_out}
    assert reasons["tiny-int8.tflite", "litert"] == "needs tflite>=2.17"
    assert reasons["tiny-fp32.tflite", "tflite-runtime"] == "tflite-runtime is not installed"


def test_without_any_engine_the_error_names_all(loaded: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "installed_engines", dict)
    with pytest.raises(EngineError, match=r"can run here: tiny-int8.tflite by litert: ai-edge-litert is not installed; .*onnxruntime"):
        compare(loaded, FEW)


@pytest.mark.parametrize(
    ("threads", "expected"),
    [(None, [1, 3]), ([2], [2]), ([4, 1, 4], [1, 4]), ("auto", [1, 2, 3])],
)
def test_which_threads_are_tried(threads: object, expected: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "default_threads", lambda: 3)
    monkeypatch.setattr(module, "usable_cores", lambda: 3)
    assert thread_counts(CompareOptions(threads=threads)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (CompareOptions(rounds=0), "0 rounds of 10 runs"),
        (CompareOptions(burst=0), "20 rounds of 0 runs"),
        (CompareOptions(threads=[]), "threads is []"),
        (CompareOptions(threads=[0, 1]), "threads is"),
    ],
)
def test_nonsense_is_refused(options: CompareOptions, said: str) -> None:
    with pytest.raises(EngineError, match="give") as caught:
        thread_counts(options)
    assert said in str(caught.value)


def test_the_table_is_aligned_and_says_what_is_left_out_once(loaded: Bundle, costs: dict, clock: Clock) -> None:
    costs["tiny-fp32.onnx", 1] = lambda run: 100.0
    lines = as_text(as_json(compare(loaded, FEW, clock=clock))).splitlines()
    assert lines[0].split() == ["file", "engine", "threads", "p50", "ms", "p90", "ms", "p99", "ms", "spread", "ratio", "memory", "MB"]
    assert lines[1].split()[-1] == "-"
    end = lines[0].index("p50 ms") + len("p50 ms")
    assert [line[:end].split()[-1] for line in lines[1:4]] == ["1.000", "1.000", "100.000"]
    assert [line for line in lines if line.startswith("left out")] == ["left out: tflite-runtime: tflite-runtime is not installed"]
    assert lines[-1].startswith("on ")


def test_memory_is_that_of_a_process_of_its_own(loaded: Bundle) -> None:
    ballast = np.ones(30_000_000)
    engine = open_engine(loaded, "tiny-fp32.tflite", threads=1, engine="litert")
    found = peak_rss_mb(loaded, engine)
    assert ballast.nbytes == 240_000_000
    assert found is not None
    assert 10 < found < 240


def test_memory_that_cannot_be_told_is_none(loaded: Bundle) -> None:
    engine = open_engine(loaded, "tiny-fp32.tflite", threads=1, engine="litert")
    assert peak_rss_mb(Bundle(loaded.path / "gone", loaded.manifest), engine) is None


def test_a_real_comparison_as_json(bundle_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "peak_rss_mb", lambda loaded, engine: 50.0)
    assert main(["compare-engines", str(bundle_path), "--threads", "1", "--rounds", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    assert {"litert", "onnxruntime"} <= {row["engine"] for row in found["rows"]}
    assert {row["file"] for row in found["rows"]} == set(tiny_bundle.FILES)
    for row in found["rows"]:
        assert 0 < row["invoke_ms"]["p50"] <= row["invoke_ms"]["p90"] <= row["invoke_ms"]["p99"]
        assert row["peak_rss_mb"] == 50.0
    assert "int8" in found["environment"]


def test_figures_of_a_hot_board_are_warned_of(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks = iter([Machine(60.0, [], 90.0), Machine(85.0, ["throttled now"], 90.0)])
    monkeypatch.setattr(module, "machine_now", lambda: next(looks))
    options = CompareOptions(threads=[1], rounds=1, burst=1, memory=False)
    assert compare_command(bundle_path, options) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("WARNING: these figures were taken while the board could not run")
    looks = iter([Machine(60.0, [], 90.0)] * 2)
    compare_command(bundle_path, options, as_json_object=True)
    found = json.loads(capsys.readouterr().out)
    assert found["warning"] is None
    assert found["machine"]["after"]["temperature_c"] == 60.0


@pytest.mark.parametrize(("text", "expected"), [("1,2", [1, 2]), ("4", [4]), ("auto", "auto")])
def test_thread_counts_on_the_command_line(text: str, expected: object) -> None:
    assert parser().parse_args(["compare-engines", "x", "--threads", text]).threads == expected


@pytest.mark.parametrize("text", ["0", "1,", "1,x", "-1", ""])
def test_wrong_thread_counts_are_usage_errors(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parser().parse_args(["compare-engines", "x", f"--threads={text}"])
    assert stopped.value.code == 2
    assert "--threads" in capsys.readouterr().err
