"""The report: complete in itself, honest about what is missing, well-formed, and readable in a real browser."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedistill.demo import report
from edgedistill.demo.report import ReportInput, Sample, render, terminal_table, write_report

VOID = {"meta", "link", "img", "br"}
LABELS = ["bag", "coat", "shirt"]
COUNTS = np.array([[600, 60, 6], [10, 640, 17], [20, 80, 567]])
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def entry(accuracy: float, **more: object) -> dict:
    return {"accuracy": accuracy, "parameters": 410_000, "macs": 9_100_000, **more}


def exported(format_: str, precision: str) -> dict:
    latency = {"p50": 0.36, "p90": 0.4, "p99": 0.576}
    return {
        "file": f"s-{precision}.{format_}",
        "format": format_,
        "precision": precision,
        "bytes": 560_000,
        "accuracy": 0.882,
        "agreement": 0.987,
        "latency_ms": latency,
    }


RESULTS = {
    "schema": 1,
    "test_images": 2000,
    "teacher": entry(0.935),
    "plain": entry(0.861, bytes=1_660_000),
    "distilled": entry(0.884, bytes=1_660_000),
    "paired": {"only_distilled": 112, "only_plain": 66},
    "files": [exported(f, p) for f in ("onnx", "tflite") for p in ("fp32", "int8")],
    "camera": {"accuracy": 0.842, "fps": 231.2, "frames": 600, "dropped": 0},
    "environment": {"cpu": "A <CPU> & more", "temp_c": None, "versions": {"numpy": "2.4.6"}, "isa": ["avx2", "fma"]},
}


def sample(predicted: str, true: str) -> Sample:
    frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    return Sample(frame, predicted, 0.93, true)


def full() -> ReportInput:
    """Return a report with every field filled."""
    row = {"file": "s-int8.tflite", "max_delta": 1.25, "cosine": 0.99712, "agreement": 0.987, "accuracy": 0.882, "drop": 0.002, "ok": True}
    return ReportInput(
        results=RESULTS,
        title="A <title> & more",
        created="1 May 2026",
        dataset="Garments (MIT).",
        curves={
            name: [{"epoch": e, "val_accuracy": 0.8 + e / 50, "val_loss": 1 / e} for e in range(1, 4)] for name in ("plain", "distilled")
        },
        labels=LABELS,
        confusion=COUNTS,
        shipped_file="s-int8.tflite",
        stage_latencies_ms={"capture": [1.0, 2.0, 3.0], "invoke": [0.3, 0.31, 0.4], "total": [1.4, 2.4, 3.5]},
        samples=[sample("bag", "bag"), sample("coat", "shirt")],
        ladder=[row, {**row, "file": "s-fp32.onnx", "max_delta": None, "cosine": None, "ok": False}],
        tried=[
            {"format": "tflite", "student": "trained", "quantization": "static_int8", "kept": False, "verdict": "dropped: 20 <parts>"},
            {"format": "tflite", "student": "equalized", "quantization": "static_int8_float_islands", "kept": True, "verdict": "kept"},
        ],
        commands=["make demo", "edgedistill camera runs/demo/bundle --source 0 > 'a<b'"],
    )


def without_figures(**more: object) -> ReportInput:
    """Return a report that is quick to render; `more` goes into its results."""
    return ReportInput(
        results={**{key: RESULTS[key] for key in ("schema", "test_images")}, "plain": entry(0.861), "distilled": entry(0.884), **more}
    )


class Page(HTMLParser):
    """The parsed page: elements with their attributes, text by element, and whether every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, list[str]] = {}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.text.setdefault(self.open[-1], []).append(" ".join(data.split()))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join(text for tag, texts in self.text.items() if tag not in ("style", "script") for text in texts)


@pytest.fixture(scope="module")
def html() -> str:
    return render(full())


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_every_element_is_closed_and_the_text_is_escaped(page: Page) -> None:
    assert page.open == []
    assert page.text["title"] == page.text["h1"] == ["A <title> & more"]
    assert "A <CPU> & more" in page.text["td"]
    assert "edgedistill camera runs/demo/bundle --source 0 > 'a<b'" in page.text["pre"][0]


def test_the_page_loads_nothing_from_elsewhere(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in ("script", "iframe", "object", "embed", "form")
        for key in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert attributes.get(key, "#").startswith(("#", "data:")), (tag, key)
    style = " ".join(page.text["style"])
    assert "@import" not in style
    assert "url(" not in style


def test_the_page_works_on_a_phone_in_the_dark_and_on_paper(page: Page, html: str) -> None:
    style = " ".join(page.text["style"])
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    for query in ("screen and (prefers-color-scheme: dark)", "(max-width: 40rem)", "@media print"):
        assert query in style
    used = set(re.findall(r"var\((--[a-z]+)\)", html))
    for block in (style[: style.index("@media")], style[style.index("@media") : style.index("* {")]):
        assert used - {"--tone"} <= set(re.findall(r"(--[a-z]+):", block))


def test_ids_are_unique_and_pictures_have_alternative_texts(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert len(page.all("svg")) == 5
    for attributes in page.all("svg"):
        assert attributes["role"] == "img"
        assert len(attributes["aria-label"]) > 40
    assert [attributes["alt"] for attributes in page.all("img")] == [
        "Camera frame 1 showing: bag; answered: bag, 93 %",
        "Camera frame 2 showing: shirt; answered: coat, 93 %",
    ]
    assert len(page.all("figcaption")) == len(page.all("figure")) == 7


def test_alternative_texts_tell_what_the_figure_shows(page: Page) -> None:
    names = " ".join(attributes["aria-label"] for attributes in page.all("svg"))
    assert "Accuracy after the last epoch: plain 86.0 %, distilled 86.0 %" in names
    assert "1807 of 2000 images on the diagonal; the commonest mistake is shirt taken for coat, 80 times" in names
    assert "Medians: capture 2.00 ms, invoke 0.310 ms, total 2.40 ms" in names
    assert "TFLite int8 88.2 % at 0.360 ms" in names
    assert "Plain student 86.1 % at 1.66 MB" in names


def test_pictures_decode_and_are_small(page: Page) -> None:
    for attributes in page.all("img"):
        prefix, payload = attributes["src"].split(",", 1)
        assert prefix == "data:image/jpeg;base64"
        image = cv2.imdecode(np.frombuffer(base64.b64decode(payload), np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (240, 320, 3)
        assert (attributes["width"], attributes["height"]) == ("320", "240")


@pytest.mark.parametrize(
    ("plain", "paired", "word"), [(0.861, (112, 66), "helped"), (0.90, (66, 112), "harm"), (0.883, (90, 88), "No diff")]
)
def test_the_verdict_stands_in_the_header(plain: float, paired: tuple[int, int], word: str) -> None:
    counts = {"only_distilled": paired[0], "only_plain": paired[1]}
    page = Page(render(without_figures(plain=entry(plain), paired=counts)))
    assert word in page.text["h2"][0]
    assert "one run cannot tell" in page.words
    assert ("The interval includes zero" in page.words) == (word == "No diff")


def test_repeated_seeds_are_told_where_there_are_some() -> None:
    seeds = [{"seed": s, "plain": 0.86, "distilled": 0.88 + s / 1000} for s in range(3)]
    words = Page(render(without_figures(seeds=seeds))).words
    assert "Over 3 paired seeds the mean difference is +2.1 points" in words
    assert "one run cannot tell" not in words


def test_the_tables_hold_the_figures_with_their_units(page: Page) -> None:
    cells = page.text["td"]
    for cell in ("93.5 %", "88.2 %", "560 kB", "0.360", "0.576", "98.70 %", "1.2", "0.99712", "2.4.6", "avx2, fma"):
        assert any(text.startswith(cell) for text in cells), cell
    assert {"(ms)", "(million)", "p50 (ms)", "(logits)", "(points)"} <= set(page.text["th"])
    assert page.text["dd"] == ["84.2 %", "231", "600", "0"]
    assert {"✓ yes", "✗ no"} <= set(page.text["span"])


def test_a_figure_that_was_not_measured_is_a_dash_and_never_a_zero(html: str) -> None:
    teacher = html[html.index('<th scope="row">Teacher</th>') : html.index('<th scope="row">Plain student</th>')]
    values = re.findall(r'data-name="([^"]*)">([^<]*)', teacher)
    dashes = [name for name, value in values if value == "–"]
    assert dashes == ["agreement", "size", "p50, ms", "p90, ms", "p99, ms", "memory, MB"]
    assert "Not timed: Teacher; Plain student; Distilled student." in html
    camera = {"accuracy": None, "fps": None, "frames": 5, "dropped": None}
    page = Page(render(without_figures(camera=camera)))
    assert page.text["dd"] == ["–", "–", "5", "–"]


def test_sections_without_input_say_so() -> None:
    page = Page(render(without_figures()))
    for sentence in (
        "No learning curves were recorded in this run.",
        "No confusion matrix was taken in this run.",
        "No sizes were recorded in this run.",
        "No latencies were recorded in this run.",
        "The camera loop was not run.",
        "No latencies by stage were recorded in this run.",
        "No sample frames were kept.",
        "The files were not compared in this run.",
        "No environment was recorded.",
    ):
        assert sentence in page.words
    assert not page.all("svg")
    assert page.open == []


def test_the_report_is_written_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "new" / "report.html"
    write_report(full(), out)
    before = out.read_bytes()
    assert before.startswith(b"<!doctype html>")
    assert len(before) < 400_000
    monkeypatch.setattr(report, "TEMPLATE", "missing.j2")
    with pytest.raises(Exception, match=r"missing\.j2"):
        write_report(full(), out)
    assert out.read_bytes() == before
    assert list(out.parent.iterdir()) == [out]


def test_a_small_frame_keeps_its_size() -> None:
    payload = report.data_uri(np.zeros((30, 40, 3), np.uint8)).split(",", 1)[1]
    assert cv2.imdecode(np.frombuffer(base64.b64decode(payload), np.uint8), cv2.IMREAD_COLOR).shape == (30, 40, 3)


@pytest.mark.parametrize(
    ("tree", "flat"),
    [
        ({}, {}),
        ({"a": 1, "b": {"c": None, "d": {"e": True}}}, {"a": "1", "b.c": "–", "b.d.e": "True"}),
        ({"a": [], "b": [1, "x"]}, {"a": "–", "b": "1, x"}),
    ],
)
def test_nested_conditions_become_one_level(tree: dict, flat: dict) -> None:
    assert report.flatten(tree) == flat


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        ({"file": "a", "accuracy_delta": -0.002, "ok": True}, ["–", "–", "–", "–", "−0.2", "–", "–", "✓ yes"]),
        ({"file": "a", "drop": 0.002, "max_delta": 0.5, "cosine": 1.0, "agreement": 1.0, "accuracy": 0.9, "ok": False},
         ["0.5", "1.00000", "100.00 %", "90.00 %", "−0.2", "–", "–", "✗ no"]),
        ({"file": "a", "drop": 0.0, "ok": True}, ["–", "–", "–", "–", "0.0", "–", "–", "✓ yes"]),
        ({"file": "a", "drop": 0.002, "drop_interval": (-0.001, 0.005), "partitions": 20, "speed": {"ratio_to_fp32": 1.987}, "ok": True},
         ["–", "–", "–", "–", "−0.2 (−0.5 to +0.1)", "20", "1.99", "✓ yes"]),
    ],
)  # fmt: skip
def test_the_ladder_takes_a_loss_or_a_difference(row: dict, cells: list[str]) -> None:
    html = render(replace(without_figures(), ladder=[row]))
    table = html[html.index("largest difference") : html.index("The parity ladder")]
    assert [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", table)] == cells


def test_what_was_tried_is_told_with_its_verdict() -> None:
    html = render(full())
    table = html[html.index("way of quantizing") : html.index("What was tried, in order")]
    assert [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<th scope=\"row\">(.*?)</th>", table)] == [
        "static_int8",
        "static_int8_float_islands, equalized",
    ]
    assert "dropped: 20 &lt;parts&gt;" in table


def test_a_perfect_confusion_matrix_has_no_commonest_mistake() -> None:
    page = Page(render(replace(without_figures(), labels=LABELS, confusion=np.diag([5, 6, 7]))))
    assert any(attributes["aria-label"] == "Confusion matrix: 18 of 18 images on the diagonal." for attributes in page.all("svg"))


def test_the_terminal_table_comes_from_the_same_results() -> None:
    assert terminal_table(RESULTS).row_count == 7


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed; apt-get install chromium")
@pytest.mark.parametrize("size", ["1200,1000", "500,1000"])
def test_in_a_real_browser_all_pictures_show_and_nothing_is_fetched(tmp_path: Path, size: str) -> None:
    out = tmp_path / "report.html"
    write_report(full(), out)
    probe = """<script>addEventListener("load", () => {
      const bad = [...document.images].filter(i => !i.complete || !i.naturalWidth).length;
      const flat = [...document.querySelectorAll("svg")].filter(s => s.getBoundingClientRect().height < 100).length;
      const net = performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:")).length;
      const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
      document.title = JSON.stringify({images: document.images.length, bad, flat, net, wide});
    });</script>"""
    out.write_text(out.read_text().replace("</body>", probe + "</body>"))
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={size}", "--dump-dom", out.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None
    assert title[1] == '{"images":2,"bad":0,"flat":0,"net":0,"wide":false}'
