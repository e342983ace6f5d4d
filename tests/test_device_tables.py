"""The figures of the camera loop in the documents: made from result files of the measurements' own types; what is missed is said."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import attacks
import device_tables as tables
import endings
import loop_tables
import loops
import msgspec
import outages
import pytest
import wear
from arm_checks import NOT_A_LATENCY
from entry import Entry, at_most, machine
from loops import FIGURES, FILE, LIVE, SLOW, Compared

ROOT = Path(__file__).parents[1]
PUBLISHED = runpy.run_path(str(ROOT / "models" / "published_tables.py"))
FILE_OF = {"soak": "laptop", "soak-all": "laptop", "loops": "laptop", "loops-line": "laptop", "arm": "rpi4", "arm-line": "rpi4"}


def soak(*entries: Entry) -> dict[str, Any]:
    """Return what `tests/soak` writes of these entries."""
    found: dict[str, Any] = json.loads(msgspec.json.encode({"schema": 1, "entries": entries}))
    return found


def entry(name: str, value: float, bound: float | None = 2.0, unit: str = "s") -> Entry:
    return at_most(name, value, bound=bound, unit=unit, how=f"worst of 3 | by hand; {machine()}")


def loops_file(*, ours: dict[str, float] | None = None, theirs: dict[str, float] | None = None) -> dict[str, Any]:
    """Return what `tests/bench/loops.py` writes, by its own code."""

    def told(**figures: float | None) -> dict[str, Any]:
        return {"version": "1.0", **dict.fromkeys(FIGURES, 1.0), **figures}

    good = {"fps": 200.0, "first_result_s": 0.5, "peak_rss_mb": 90.0, "cpu_share_beside_inference": 0.02, "age_p99_ms": 9.0}
    mine = {kind.name: told(**{**good, **(ours or {})}) for kind in (FILE, LIVE, SLOW)}
    sample = told(**{"fps": 100.0, "age_p99_ms": 50.0, "cpu_share_beside_inference": None, "peak_rss_mb": 150.0, **(theirs or {})})
    rows = {"bare": {"file": told(age_p99_ms=None)}, "edgedistill-onnx": mine, "edgedistill": mine}
    rows["tensorflow-sample"] = {"file": sample, "live": sample}
    written: dict[str, Any] = json.loads(msgspec.json.encode(loops.as_json(Compared(3, rows, {"ultralytics": "does not install here"}))))
    return written


def arm_file(**last: object) -> dict[str, Any]:
    """Return what `tests/arm` writes of two systems with one bundle of two files."""

    def suite(python: str) -> dict[str, Any]:
        clip = [
            {"bundle": "small", "file": file, "frames": 12, "same_answers": 12, "largest_difference": 4e-7, "budget": 1e-4}
            for file in ("onnx-fp32", "tflite-int8")
        ]
        return {
            "bundle": "small",
            "versions": {"machine": "aarch64", "board": "Raspberry Pi 4", "edgedistill": "0.1.0", "python": python, "litert": "2.3.0"},
            "selfcheck": {"small": {"small-fp32.onnx": 1e-6, "small-int8.tflite": 0.0}},
            "clip": clip,
            "photographs": [
                {
                    "file": "small-int8.tflite",
                    "photographs": 1000,
                    "agreement": 0.999,
                    "accuracy": 0.88,
                    "drop": -0.001,
                    "budget": "drop <= 0.50%",
                }
            ],
            "http_camera": {"file": "onnx-fp32", "frames": 3, "largest_difference": 0.0},
            "profile": ["capture", "total"],
            "debian_packages": 40,
        }

    suites = {"bookworm": suite("3.11.2"), "trixie": suite("3.13.5")}
    suites["bookworm"]["instructions"] = {"small tflite-int8": {"all": 40_000_000, "vector": 30_000_000, "dot_product": 0}}
    suites["trixie"]["clip"][1] |= last
    return {"schema": 1, "board": "Raspberry Pi 4", "cpu": "cortex-a72", "note": NOT_A_LATENCY, "suites": suites}


def test_a_kind_of_test_is_a_row_with_its_worst_figure() -> None:
    text = tables.soak_table(
        soak(entry("sigterm_running_s", 0.13), entry("sigterm_camera_away_s", 1.02), entry("p95_drift", -0.004, 0.1, ""))
    )
    lines = text.splitlines()
    assert lines[2] == "| 100,000 frames: drift of a frame's p95 over the run | −0.40 % | 10.00 % | yes |"
    assert lines[3] == "| from SIGTERM to the end of the process, worst of 2 ways (camera away) | 1.02 s | 2 s | yes |"
    assert "All 3 bounds are met." in lines
    assert lines[-1].startswith("Measured on ")
    assert "load average" in lines[-1]


def test_what_misses_its_bound_is_said_in_the_row_and_in_words() -> None:
    entries = [entry("sigterm_running_s", 2.5), entry("sigterm_camera_away_s", 0.1), entry("cost_of_200_viewers", 0.031, 0.02, "")]
    text = tables.soak_table(soak(*entries))
    assert "| from SIGTERM to the end of the process, worst of 2 ways (running) | 2.5 s | 2 s | **no** |" in text
    assert "| share of the frame rate that 200 viewers of the live page cost | 3.10 % | 2.00 % | **no** |" in text
    assert "**Missed, 2 of 3 bounds:** `sigterm_running_s` is 2.5 s, at most 2 s is wanted; `cost_of_200_viewers` is 3.10 %" in text
    assert "All " not in text


def test_a_missed_bound_is_the_row_s_figure_also_where_others_are_nearer_to_theirs() -> None:
    entries = [entry("hostile_cut_mb", 50.0, 64.0, "MB"), entry("hostile_bomb_mb", 11.0, 10.0, "MB")]
    assert "worst of 2 ways (bomb) | 11 MB | 10 MB | **no** |" in tables.soak_table(soak(*entries))


def test_a_figure_without_words_is_shown_by_its_name_and_one_for_information_in_the_long_table_only() -> None:
    found = soak(entry("brand_new", 1.0), entry("told_only", 1234.0, None, "kB"))
    assert "| `brand_new` | 1 s | 2 s | yes |" in tables.soak_table(found)
    assert "told_only" not in tables.soak_table(found)
    assert "| `told_only` | 1,234 kB | – | for information | worst of 3 \\| by hand |" in tables.soak_entries(found)


def test_the_words_have_the_numbers_of_the_tests() -> None:
    assert (outages.OUTAGE_S, outages.RECONNECTS, wear.FRAMES, wear.SLOWER, attacks.VIEWERS, endings.KILLS) == (
        5,
        1000,
        100_000,
        5,
        200,
        30,
    )


def test_loops_are_told_with_the_ratio_and_what_we_are_behind_in() -> None:
    lines = tables.loops_table(loops_file(theirs={"first_result_s": 0.4})).splitlines()
    sample = next(line for line in lines if "TensorFlow" in line)
    assert "| TFLite int8 | 100 | 50 | 1.00 | 100 % | 150 | 0.40 | 2.00 times its rate; behind in start |" in sample
    assert [line.split(" | ")[1] for line in lines[2:6]] == ["TFLite int8", "TFLite int8", "TFLite int8", "ONNX int8"]
    assert "All of these are met. Left out: ultralytics (does not install here)." in lines[-2]
    assert "first result 0.50 s (at most 0.80 s)" in lines[-2]
    assert "Missed" not in "".join(lines)
    assert lines[-1].startswith("Medians of 3 rounds in turn with `garments-mobilenetv2`")


@pytest.mark.parametrize(
    ("ours", "missed"),
    [
        ({"first_result_s": 0.81}, "**Missed: first result.**"),
        ({"peak_rss_mb": 121.0}, "**Missed: peak memory.**"),
        ({"cpu_share_beside_inference": 0.04}, "**Missed: CPU beside the inference at 6 frames a second.**"),
        ({"fps": 99.0}, "**Missed: to be at least as fast as TensorFlow's Raspberry Pi sample, written anew.**"),
    ],
)
def test_what_our_loop_misses_is_said(ours: dict[str, float], missed: str) -> None:
    found = loops_file(ours=ours)
    assert missed in tables.loops_table(found)
    assert missed in tables.loops_line(found)
    assert ("**slower**: 0.99 times its rate" in tables.loops_table(found)) == ("fps" in ours)


def test_the_short_form_has_the_ratios() -> None:
    assert "Our frames a second to theirs: 2.00 times TensorFlow's Raspberry Pi sample" in tables.loops_line(loops_file())


def test_loops_are_held_against_the_same_and_by_the_same_bounds_as_where_they_are_measured() -> None:
    assert loop_tables.AGAINST == loops.AGAINST
    assert [name for name, loop in loops.LOOPS.items() if loop.file.startswith("onnx")] == list(loop_tables.ONNX)
    rows = {name: {kind: found for kind, found in row.items() if kind != "what"} for name, row in loops_file()["rows"].items()}
    measured = {entry.name: entry.bound for entry in loops.entries(Compared(1, rows, {}))}
    ours = {name: most for name, (_, _, most, _) in loop_tables.OURS.items()}
    named = {"first_result_s": "first_result_s", "peak_rss_mb": "peak_rss_mb", "cpu_share_beside_inference": "cpu_at_6_fps"}
    assert ours == {name: measured[f"loops {other}"] for name, other in named.items()}


def test_an_emulated_board_is_told_by_file_and_no_time_is() -> None:
    text = tables.arm_table(arm_file(largest_difference=2e-5))
    assert "| small onnx-fp32 | ok | 12 of 12 | 4.0e-07 | 1.0e-04 | – | – |" in text
    assert "| small tflite-int8 | ok | 12 of 12 | 4.0e-07 / 2.0e-05 | 1.0e-04 | 40.0 | 75 % |" in text
    assert "Trixie: Python 3.13.5, by pip litert 2.3.0; HTTP camera: 3 frames" in text
    assert "| 1,000 | small-int8.tflite | 99.90 % | −0.10 % | drop at most 0.50% |" in text
    assert "Times of an emulation are no latencies of a board: none is given" in text
    assert " ms" not in text


def test_a_file_without_a_budget_has_its_difference_told_and_is_not_counted_as_within_one() -> None:
    found = arm_file(budget=None, largest_difference=0.2)
    assert "| small tflite-int8 | ok | 12 of 12 | 4.0e-07 / 2.0e-01 | 1.0e-04 / – |" in tables.arm_table(found)
    assert "1 of 1 files that have a budget are within it. Times" in tables.arm_line(found)
    for suite in found["suites"].values():
        del suite["photographs"]
    assert "photographs" not in tables.arm_table(found)


def test_an_emulated_board_in_short() -> None:
    text = tables.arm_line(arm_file(same_answers=11, largest_difference=1e-3))
    assert "Bookworm (Python 3.11.2): 2 files pass `selfcheck`, 24 of 24 answers" in text
    assert (
        "Trixie (Python 3.13.5): 2 files pass `selfcheck`, 23 of 24 answers over a clip are the same, the probabilities of 1 of 2 files"
        in text
    )


def test_instructions_that_could_not_be_counted_say_why() -> None:
    found = arm_file()
    found["suites"]["bookworm"]["instructions"] = "not counted: there is no gcc"
    assert tables.arm_table(found).endswith("Instructions were not counted: there is no gcc.")


@pytest.mark.parametrize("part", tables.TABLES)
def test_a_part_without_its_file_says_how_to_measure_and_shows_no_figure(part: str, tmp_path: Path) -> None:
    measurement, board = tables.TABLES[part][0], FILE_OF[part]
    path = f"devices/{board}/measured/{measurement}.json"
    assert (
        tables.part(part, board, root=tmp_path)
        == f"Not measured yet: there is no `{path}`, which `{tables.COMMANDS[measurement]} {path}` writes."
    )


@pytest.mark.parametrize("part", tables.TABLES)
def test_a_part_is_made_of_its_file(part: str, tmp_path: Path) -> None:
    measurement, board = tables.TABLES[part][0], FILE_OF[part]
    found = {"soak": soak(entry("sigterm_running_s", 1.0)), "loops": loops_file(), "arm": arm_file()}[measurement]
    file = tmp_path / f"devices/{board}/measured/{measurement}.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(found))
    assert tables.part(part, board, root=tmp_path) == tables.TABLES[part][1](found)
    assert tables.why_missing(part, board, root=tmp_path) is None
    file.write_text(json.dumps(found | {"schema": 2}))
    with pytest.raises(ValueError, match="has schema 2, expected 1: measure again"):
        tables.part(part, board, root=tmp_path)


def test_the_command_says_what_is_missing() -> None:
    text = "<!-- generated: soak/nowhere -->\n<!-- end -->\n<!-- generated: demo/fashion-mnist-mobilenetv3 -->\n<!-- end -->\n"
    (told,) = PUBLISHED["missing"](text)
    assert told.startswith("soak/nowhere: there is no `devices/nowhere/measured/soak.json`, which `python tests/soak --out")
    assert "Not measured yet" in PUBLISHED["fill"](text)


def test_all_tables_are_in_the_documents() -> None:
    text = (ROOT / "README.md").read_text() + (ROOT / "devices" / "camera.md").read_text()
    for part, board in FILE_OF.items():
        assert f"<!-- generated: {part}/{board} -->" in text, part
    assert set(FILE_OF) == set(tables.TABLES)
