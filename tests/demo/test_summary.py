"""The verdict's statistics, the main table's rows, and numbers as text."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from edgedistill.demo import summary
from edgedistill.demo.summary import main_rows, paired_interval, seeds_sentence, terminal_table, unpaired_interval, verdict


def results(plain: float = 0.861, distilled: float = 0.884, **more: object) -> dict:
    """Return a small results object: a teacher that was not timed, and one file that was."""
    file = {"file": "s.tflite", "format": "tflite", "precision": "int8", "bytes": 560_000, "accuracy": 0.8825, "agreement": 0.987}
    return {
        "schema": 1,
        "test_images": 2000,
        "teacher": {"accuracy": 0.9355, "parameters": 4_900_000, "macs": 180_000_000},
        "plain": {"accuracy": plain, "parameters": 410_000, "macs": 9_100_000},
        "distilled": {"accuracy": distilled, "parameters": 410_000, "macs": 9_100_000},
        "files": [{**file, "latency_ms": {"p50": 0.36, "p90": 0.4, "p99": 0.576}, "peak_rss_mb": 88.4}],
        **more,
    }


def as_text(table: object, *, width: int = 80) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(table)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("plain", "distilled", "paired", "word"),
    [
        (0.861, 0.884, (112, 66), "better"),
        (0.884, 0.861, (66, 112), "worse"),
        (0.880, 0.884, (92, 84), "no difference"),
        (0.884, 0.880, (84, 92), "no difference"),
        (0.884, 0.884, (0, 0), "no difference"),
        (0.840, 0.884, None, "better"),
        (0.884, 0.840, None, "worse"),
        (0.870, 0.884, None, "no difference"),
    ],
)
def test_the_verdict_follows_the_interval(plain: float, distilled: float, paired: tuple[int, int] | None, word: str) -> None:
    counts = {} if paired is None else {"paired": {"only_distilled": paired[0], "only_plain": paired[1]}}
    found = verdict(results(plain, distilled, **counts))
    assert found.word == word
    assert found.low < found.difference < found.high
    assert found.difference == pytest.approx(distilled - plain)
    assert found.headline == summary.WORDS[word]
    assert ("paired" in found.method) == (paired is not None)


def test_the_sentence_names_both_accuracies_and_the_interval() -> None:
    found = verdict(results(paired={"only_distilled": 112, "only_plain": 66}))
    assert found.sentence.startswith("On 2,000 held-out test images the distilled student is right on 88.4 %")
    assert "86.1 %: +2.3 points, 95 % interval +1.0 to +3.6." in found.sentence


def test_the_unpaired_interval_has_its_published_value() -> None:
    # Newcombe 1998, Statistics in Medicine 17:873-890, table II, method 10: 56/70 against 48/80.
    assert unpaired_interval((56 / 70, 70), (48 / 80, 80)) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_the_paired_interval_is_the_wald_interval_with_half_an_image_added_to_each_cell() -> None:
    p12, p21, n = 112.5 / 2002, 66.5 / 2002, 2002
    half = 1.959964 * np.sqrt((p12 + p21 - (p12 - p21) ** 2) / n)
    assert paired_interval(112, 66, 2000) == pytest.approx((p12 - p21 - half, p12 - p21 + half), abs=1e-12)


def test_the_paired_interval_covers_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for only_a, only_b, _ in rng.multinomial(2000, [0.06, 0.04, 0.90], 2000):
        low, high = paired_interval(int(only_a), int(only_b), 2000)
        covered += low <= 0.02 <= high
    assert 0.935 < covered / 2000 < 0.965


@given(st.integers(0, 500), st.integers(0, 500), st.integers(1000, 100_000))
def test_swapping_the_students_mirrors_the_interval(only_a: int, only_b: int, images: int) -> None:
    low, high = paired_interval(only_a, only_b, images)
    assert paired_interval(only_b, only_a, images) == pytest.approx((-high, -low))
    assert low < (only_a - only_b) / (images + 2) < high


def test_rows_are_the_networks_and_then_the_files() -> None:
    rows = main_rows(results())
    assert [row.kind for row in rows] == ["teacher", "plain", "distilled", "tflite-int8"]
    assert [row.name for row in rows] == ["Teacher", "Plain student", "Distilled student", "TFLite int8"]
    teacher, file = rows[0], rows[-1]
    assert (teacher.parameters, teacher.bytes, teacher.p50, teacher.peak_rss_mb, teacher.agreement) == (4_900_000, None, None, None, None)
    assert (file.bytes, file.p50, file.p90, file.p99, file.peak_rss_mb, file.agreement) == (560_000, 0.36, 0.4, 0.576, 88.4, 0.987)
    assert file.interval is not None
    assert file.interval[0] < 0.8825 < file.interval[1]


@pytest.mark.parametrize("missing", ["teacher", "files"])
def test_a_part_that_was_not_run_has_no_row(missing: str) -> None:
    tree = results()
    del tree[missing]
    assert len(main_rows(tree)) == 3


def test_the_terminal_table_fits_80_columns_and_shows_a_dash_for_what_is_missing() -> None:
    text = as_text(terminal_table(results(paired={"only_distilled": 112, "only_plain": 66})))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    cells = {line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:-1]] for line in lines if line.startswith("│")}
    assert cells["Teacher"] == ["93.6 %", "–", "–", "–", "–", "–"]
    assert cells["TFLite int8"] == ["88.3 %", "560 kB", "0.360", "0.400", "0.576", "88"]
    assert "Distilling helped: +2.3 points, 95 % interval +1.0 to +3.6" in text


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        (None, None),
        ([], None),
        ([{"seed": 0, "plain": 0.86, "distilled": 0.88}], None),
        (
            [{"seed": s, "plain": 0.86, "distilled": 0.86 + d} for s, d in enumerate((0.02, 0.03, 0.01))],
            "Over 3 paired seeds the mean difference is +2.0 points, standard deviation 1.0, from +1.0 to +3.0.",
        ),
    ],
)
def test_what_other_seeds_showed_is_told_only_if_there_were_some(seeds: list | None, expected: str | None) -> None:
    assert seeds_sentence({"seeds": seeds}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (summary.percent(0.8835), "88.4 %"),
        (summary.percent(0.8825), "88.3 %"),
        (summary.percent(1.0, digits=2), "100.00 %"),
        (summary.percent(0.0), "0.0 %"),
        (summary.percent(None), "–"),
        (summary.points(0.0234), "+2.3"),
        (summary.points(-0.0234), "−2.3"),
        (summary.points(0.0), "0.0"),
        (summary.points(-0.0001), "0.0"),
        (summary.points(None), "–"),
        (summary.milliseconds(0.0312), "0.031"),
        (summary.milliseconds(1.234), "1.23"),
        (summary.milliseconds(12.34), "12.3"),
        (summary.milliseconds(123.4), "123"),
        (summary.milliseconds(None), "–"),
        (summary.size(1_234_567), "1.23 MB"),
        (summary.size(812_400), "812 kB"),
        (summary.size(99), "99 B"),
        (summary.size(None), "–"),
        (summary.millions(410_000), "0.41"),
        (summary.millions(12_340_000), "12.3"),
        (summary.millions(180_000_000), "180"),
        (summary.millions(None), "–"),
        (summary.megabytes(88.4), "88"),
        (summary.megabytes(None), "–"),
    ],
)
def test_numbers_as_text(text: str, expected: str) -> None:
    assert text == expected
