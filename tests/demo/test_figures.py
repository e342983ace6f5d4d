"""Figures as SVG: well-formed, named, without fixed colours or foreign ids, and true to their numbers."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from edgedistill.demo import figures
from edgedistill.demo.summary import main_rows

LABELS = ["bag", "coat", "shirt"]
COUNTS = np.array([[8, 2, 0], [0, 10, 0], [1, 3, 6]])
CURVES = {
    "plain": [{"epoch": e, "val_accuracy": 0.5 + e / 20, "val_loss": 1 / e} for e in range(1, 5)],
    "distilled": [{"epoch": e, "val_accuracy": 0.6 + e / 20, "val_loss": 0.9 / e} for e in range(1, 5)],
}
STAGES_MS = {"total": [1.3, 1.4, 1.5], "invoke": [1.0, 1.1, 1.2], "capture": [0.2, 0.2, 0.3], "preprocess": [0.0, 0.01, 0.02]}
RESULTS = {
    "test_images": 2000,
    "teacher": {"accuracy": 0.93, "bytes": 9_800_000},
    "plain": {"accuracy": 0.86, "bytes": 1_660_000},
    "distilled": {"accuracy": 0.88, "bytes": 1_660_000},
    "files": [
        {"file": "a", "format": f, "precision": p, "bytes": 600_000, "accuracy": 0.88, "latency_ms": {"p50": 0.4, "p90": 0.5, "p99": 0.6}}
        for f in ("onnx", "tflite")
        for p in ("fp32", "int8")
    ],
}
DRAW: dict[str, Callable[[], str]] = {
    "curves": lambda: figures.learning_curves(CURVES, alt='rising "curves" <&>'),
    "size": lambda: figures.accuracy_against_size(main_rows(RESULTS), alt="size"),
    "latency": lambda: figures.accuracy_against_latency(main_rows(RESULTS), alt="latency"),
    "confusion": lambda: figures.confusion(COUNTS, LABELS, alt="confusion"),
    "histogram": lambda: figures.latency_histogram(STAGES_MS, alt="histogram"),
}


@cache
def svg(name: str) -> str:
    """Draw a figure once for all tests that only read it."""
    return DRAW[name]()


def texts(drawn: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(drawn).iter() if element.tag.endswith("}text")]


@pytest.mark.parametrize("name", DRAW)
def test_a_figure_is_well_formed_scalable_and_has_a_name(name: str) -> None:
    root = ET.fromstring(svg(name))
    assert root.tag.endswith("}svg")
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert root.get("viewBox", "").startswith("0 0 480 ")
    assert root.get("width") is None


@pytest.mark.parametrize("name", DRAW)
def test_every_colour_is_a_variable_so_that_dark_mode_and_print_can_change_it(name: str) -> None:
    drawn = svg(name)
    assert "var(--ink)" in drawn
    assert set(re.findall(r"var\((--[a-z]+)\)", drawn)) <= set(figures.VARIABLES.values())
    assert not re.findall(r"(?:fill|stroke): ?#(?!000000)[0-9a-f]{6}", drawn)


@pytest.mark.parametrize("name", DRAW)
def test_ids_are_the_figures_own_and_every_reference_resolves(name: str) -> None:
    drawn = svg(name)
    ids = re.findall(r'\bid="([^"]*)"', drawn)
    assert len(ids) == len(set(ids))
    assert all(one.startswith(f"{name}-") for one in ids)
    references = re.findall(r'(?:url\(#|href="#)([^")]*)', drawn)
    assert references
    assert set(references) <= set(ids)


@pytest.mark.parametrize("name", DRAW)
def test_nothing_is_loaded_from_elsewhere_and_the_same_input_gives_the_same_figure(name: str) -> None:
    drawn = svg(name)
    assert not re.findall(r'href="(?!#)', drawn)
    assert "<metadata" not in drawn
    assert drawn == DRAW[name]()


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("curves", {"validation accuracy (%)", "validation loss (nats)", "epoch", "trained plain", "distilled"}),
        ("size", {"test accuracy (%)", "size on disk (MB, logarithmic)", "Teacher", "Plain student", "ONNX int8", "TFLite fp32"}),
        ("latency", {"test accuracy (%)", "median latency of one image (ms, logarithmic)", "TFLite int8"}),
        ("confusion", {"true class", "predicted class", *LABELS}),
        ("histogram", {"latency (ms, logarithmic)", "invoke: p50 1.10 ms, p99 1.20 ms"}),
    ],
)
def test_axes_say_what_and_in_which_unit(name: str, labels: set[str]) -> None:
    assert labels <= set(texts(svg(name)))


def test_the_name_is_escaped() -> None:
    assert ET.fromstring(svg("curves")).get("aria-label") == 'rising "curves" <&>'


def test_what_was_not_timed_is_not_drawn() -> None:
    shown = texts(svg("latency"))
    assert "Teacher" not in shown
    assert "Plain student" not in shown


def test_the_confusion_matrix_shows_every_count_that_is_not_zero() -> None:
    numbers = sorted(int(text) for text in texts(svg("confusion")) if text.isdecimal())
    assert numbers == sorted(COUNTS[COUNTS > 0])
    opacities = [float(value or 1) for value in re.findall(r"fill: var\(--distilled\)(?:; opacity: ([0-9.]+))?", svg("confusion"))]
    assert sorted(opacities) == pytest.approx(sorted(0.08 + 0.92 * COUNTS[COUNTS > 0] / 10), abs=1e-6)


def test_many_classes_are_drawn_without_numbers_and_with_fewer_names() -> None:
    labels = [f"class {i}" for i in range(100)]
    shown = texts(figures.confusion(np.eye(100, dtype=int) * 7, labels, alt="many"))
    assert "7" not in shown
    assert shown.count("class 0") == 2
    assert sum(text.startswith("class ") for text in shown) == 40


def test_a_class_without_images_and_an_unknown_kind_of_file_do_not_stop_the_drawing() -> None:
    assert "0" not in texts(figures.confusion(np.array([[0, 0], [1, 2]]), ["a", "b"], alt="empty"))
    tree = {"test_images": 10, "files": [{"format": "ncnn", "precision": "fp16", "bytes": 5, "accuracy": 0.5}]}
    assert "ncnn fp16" in texts(figures.accuracy_against_size(main_rows(tree), alt="new"))


def test_rows_without_validation_are_left_out_of_the_curves() -> None:
    rows = [{"epoch": 1, "loss": 2.0}, {"epoch": 1, "val_accuracy": 0.5, "val_loss": 1.0}, {"epoch": 2, "val_accuracy": None}]
    drawn = figures.learning_curves({"plain": rows, "distilled": []}, alt="one point")
    assert {"trained plain", "distilled"} <= set(texts(drawn))


def test_stages_come_in_the_order_of_the_loop_and_empty_ones_not_at_all() -> None:
    drawn = figures.latency_histogram({**STAGES_MS, "postprocess": [], "wait": [5.0]}, alt="stages")
    titles = [text.split(":")[0] for text in texts(drawn) if "p50" in text]
    assert titles == ["capture", "preprocess", "invoke", "total", "wait"]


def places(drawn: str, color: str) -> list[tuple[float, float]]:
    """Return (x, y) of every mark of a colour, without the legend's, which stands below the axes; y grows downwards."""
    axes = drawn[drawn.index('-axes_1"') : drawn.index('-legend_1"')]
    uses = re.findall(r"<use [^>]*>", axes)
    marks = [use for use in uses if f"fill: var({color})" in use]
    return [(float(re.search(r'\bx="([^"]*)"', use)[1]), float(re.search(r'\by="([^"]*)"', use)[1])) for use in marks]  # type: ignore[index]


def test_a_larger_network_is_further_right_and_a_more_accurate_one_higher() -> None:
    drawn = figures.accuracy_against_size(main_rows(RESULTS), alt="size")
    (teacher,), (plain,) = places(drawn, "--teacher"), places(drawn, "--plain")
    assert teacher[0] > plain[0]
    assert teacher[1] < plain[1]


@pytest.mark.parametrize("student", ["plain", "distilled"])
def test_a_curve_has_a_mark_for_every_epoch_and_rises_with_the_accuracy(student: str) -> None:
    marks = places(svg("curves"), f"--{student}")
    assert len(marks) == len(CURVES[student])
    assert marks == sorted(marks)
    heights = [y for _, y in marks]
    assert heights == sorted(heights, reverse=True)


@pytest.mark.parametrize(
    ("interval", "drawn_length"), [((0.84, 0.88), pytest.approx(2, rel=1e-3)), ((0.85, 0.87), pytest.approx(1, rel=1e-3))]
)
def test_the_bar_is_as_long_as_the_interval(interval: tuple[float, float], drawn_length: float) -> None:
    rows = [row._replace(interval=(0.85, 0.87)) for row in main_rows(RESULTS)]
    changed = [row._replace(interval=interval) if row.kind == "plain" else row for row in rows]
    drawn = figures.accuracy_against_size(changed, alt="size")
    bars = re.findall(
        r'<path d="M ([0-9.]+) ([0-9.]+) \n?L \1 ([0-9.]+) \n?" clip-path="[^"]*" style="fill: none; stroke: var\(--muted\)', drawn
    )
    lengths = [abs(float(y0) - float(y1)) for _, y0, y1 in bars]
    assert len(lengths) == len(rows)
    assert lengths[1] / lengths[0] == drawn_length
