"""Every figure in README and cards, as text from the result files beside the models: one function a kind of block."""

import functools
import json
import math
import re
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import device_tables

from edgedistill import bundle
from edgedistill.convert import report
from edgedistill.demo.summary import FORMAT_NAMES, main_rows, megabytes, milliseconds, percent, points, size
from edgedistill.distill import run

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- generated: (?P<name>[\w/-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def demo_table(name: str) -> str:
    """Return the demo's main table in Markdown."""
    results = json.loads((ROOT / "models" / name / "demo.json").read_text())
    lines = [
        "| | accuracy | file | p50 ms | p90 ms | p99 ms | peak MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in main_rows(results):
        network = f", {row.parameters / 1e6:.2f} M parameters, {row.macs / 1e6:.1f} M MACs" if row.parameters else ""
        weight = size(row.bytes) + network
        cells = [
            row.name,
            percent(row.accuracy, digits=2),
            weight,
            *map(milliseconds, (row.p50, row.p90, row.p99)),
            megabytes(row.peak_rss_mb),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    camera, device = results["camera"], results["environment"]["device"]
    lines += [
        "",
        f"Accuracy on {results['test_images']:,} held-out photographs; latency of preprocessing, inference and postprocessing of one "
        f"640×480 frame on {device['cpu']}, {device['cores']} cores, int8 instructions: {', '.join(device['int8']) or 'none'}. "
        f"Camera loop over the clip: {percent(camera['accuracy'])} of {camera['frames']} frames right, {camera['fps']:.0f} frames a second "
        f"while writing the annotated video, {camera['dropped']} dropped.",
    ]
    return "\n".join(lines)


def seeds_text(name: str) -> str:
    """Return what repeating with other seeds showed, in Markdown."""
    seeds = json.loads((ROOT / "models" / name / "seeds.json").read_text())["seeds"]
    lines = ["| seed | plain | distilled | difference |", "| ---: | ---: | ---: | ---: |"]
    differences = [row["distilled"] - row["plain"] for row in seeds]
    for row, difference in zip(seeds, differences, strict=True):
        lines.append(
            f"| {row['seed']} | {percent(row['plain'], digits=2)} | {percent(row['distilled'], digits=2)} | {points(difference)} |"
        )
    mean, low, high = paired(differences)
    lines += [
        "",
        f"Mean difference {points(mean)} points, standard deviation {statistics.stdev(differences) * 100:.2f}, 95 % interval of the mean "
        f"{points(low)} to {points(high)} (Student's t, {len(differences)} paired seeds).",
    ]
    return "\n".join(lines)


def paired(differences: list[float]) -> tuple[float, float, float]:
    """Return the mean of paired differences and its 95 % interval, by Student's t with n - 1 degrees of freedom."""
    t_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}[len(differences)]
    mean = statistics.mean(differences)
    half = t_95 * statistics.stdev(differences) / math.sqrt(len(differences))
    return mean, mean - half, mean + half


def methods_table(name: str) -> str:
    """Return a comparison of methods in Markdown: test accuracy by method, and the difference to plain training by paired seeds."""
    results = json.loads((ROOT / "models" / name / run.RESULTS).read_text())
    accuracy = {(entry["method"], entry["seed"]): entry["accuracy"] for entry in results["runs"]}
    lines = ["| method | test accuracy | against plain | 95 % interval | verdict |", "| --- | ---: | ---: | ---: | --- |"]
    rows = []
    for method in dict.fromkeys(entry["method"] for entry in results["runs"]):
        seeds = [seed for found, seed in accuracy if found == method and ("plain", seed) in accuracy]
        mean = percent(statistics.mean(accuracy[method, seed] for seed in seeds), digits=2)
        if method == "plain":
            lines.append(f"| plain | {mean} | | | control |")
        elif len(seeds) >= 2:
            difference, low, high = paired([accuracy[method, seed] - accuracy["plain", seed] for seed in seeds])
            verdict = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
            rows.append((difference, f"| {method} | {mean} | {points(difference)} | {points(low)} to {points(high)} | {verdict} |"))
    lines += [line for _, line in sorted(rows, reverse=True)]
    images, student, train = results["images"], results["student"], results["train"]
    seeds = sorted({seed for _, seed in accuracy})
    seconds = statistics.median(entry["seconds"] for entry in results["runs"])
    teachers = {entry["teacher_accuracy"]: entry["method"] for entry in results["runs"] if entry["method"] in ("kd", "ensemble")}
    known = ", ".join(f"{percent(accuracy, digits=1)} ({method})" for accuracy, method in teachers.items())
    teaching = " and ".join(f"`{model}`" for model in results["teachers"])
    lines += [
        "",
        f"Student `{student['model']}` at {student['input_size']} px, {student['parameters'] / 1e6:.2f} M parameters; teachers {teaching}, "
        f"{known} on the same test images. {images['train']:,} labelled and {images['unlabelled']:,} unlabelled training images, "
        f"{images['test']:,} test images; {train['epochs']} epochs of both together, and as many steps for the methods that see labels "
        f"only; seeds {', '.join(map(str, seeds))}; the median run took {seconds:.0f} s.",
    ]
    return "\n".join(lines)


def card_facts(name: str) -> str:
    """Return a model's own figures in Markdown."""
    results: dict[str, Any] = json.loads((ROOT / "models" / name / run.RESULTS).read_text())
    student, data = results["student"], results["data"]
    low, high = student["accuracy_interval"]
    images = data["images"]
    lines = [
        f"- network: `{student['model']}`, {student['parameters']:,} parameters, {student['macs'] / 1e6:.1f} M multiply-accumulates at "
        f"{student['input_size']}×{student['input_size']} pixels",
        f"- test accuracy: {percent(student['accuracy'], digits=2)} (95 % interval {percent(low)} to {percent(high)}, "
        f"{images['test']:,} images), expected calibration error {student['ece']:.3f}",
        f"- data: `{data['source']}`, licence {data['licence']}; {images['train']:,} training images and "
        f"{images['validation']:,} for validation",
    ]
    if teacher := results.get("teacher"):
        accuracy = percent(teacher["accuracy"], digits=2)
        lines.append(f"- teacher: `{teacher['model']}`, {accuracy} on the same test images, licence {teacher['licence']}")
    lines.append(f"- training: seed {results['seed']}, {results['seconds']:.0f} s; versions {results['environment']['versions']}")
    return "\n".join(lines)


def bundle_table(name: str) -> str:
    """Return what the gates measured of a shipped bundle, in Markdown."""
    manifest = bundle.load(ROOT / "export" / name).manifest
    speed = next(model.speed for model in manifest.files if model.speed is not None)
    where = f"p50 of `invoke` on {speed.measured_on}, {speed.threads} thread; time to fp32 interleaved with the fp32 file of the format."
    ways = {model.file: model.quantization for model in manifest.files if model.quantization}
    made = "; ".join(f"`{file}` by `{way}`" for file, way in ways.items())
    return f"{report.table(report.HEADERS, report.rows(manifest.files))}\n\n{made}. {where}"


def int8_table(name: str) -> str:
    """Return what 8 bits cost each student, in Markdown."""
    results = json.loads((ROOT / "models" / name / "students.json").read_text())
    lines = [
        "| student | images | torch | int8 file | way | points (95 %) | parts | time to fp32 | fake-quantized agrees |",
        "| --- | ---: | ---: | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for entry in results["students"]:
        for model in entry["files"]:
            if model["quantization"] is None:
                continue
            low, high = model["drop_interval"]
            form = "" if model["student"] == "trained" else f", {model['student'].replace('_', '-')}"
            cells = [
                entry["name"],
                f"{entry['images']:,}",
                percent(model["accuracy"] + model["drop"], digits=2),
                FORMAT_NAMES[model["format"]],
                f"`{model['quantization']}`{form}",
                f"{0.0 - 100 * model['drop']:+.2f} ({-100 * high:+.2f} to {-100 * low:+.2f})",
                "–" if model["partitions"] is None else str(model["partitions"]),
                f"{model['speed']['ratio_to_fp32']:.2f}",
                percent(entry["fake_agreement"], digits=2) if model["format"] == "tflite" else "",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    speed = results["students"][0]["files"][0]["speed"]
    where = f"time on {speed['measured_on'].partition(';')[0]}, {speed['threads']} thread"
    lines += ["", f"{results['students'][0]['calibration']:,} calibration images; {where}."]
    return "\n".join(lines)


def hard_table(name: str) -> str:
    """Return what takes back the loss of students that were made hard to quantize, in Markdown."""
    results = json.loads((ROOT / "models" / name / "hard.json").read_text())
    ways = {
        "trained": "static int8",
        "equalized": "equalized, biases corrected",
        "quantization_aware": "these, then trained with fake quantization",
    }
    lines = ["| student, made hard | float | " + " | ".join(ways.values()) + " |", "| --- | ---: | ---: | ---: | ---: |"]
    for entry in results["students"]:
        cells = [entry["name"], percent(entry["accuracy"], digits=2)]
        for way in ways:
            found = entry["ways"][way]
            back = "" if way == "trained" else f" ({percent(found['recovered'], digits=0)} of the loss back)"
            cells.append(f"{percent(found['accuracy'], digits=2)}{back}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def recipes_table(name: str) -> str:
    """Return the recipes of a folder in Markdown, by the first line of each."""
    lines = ["| recipe | method |", "| --- | --- |"]
    for file in sorted((ROOT / "models" / name).glob("*.toml")):
        lines.append(f"| [`{file.stem}`]({file.name}) | {file.read_text().splitlines()[0].removeprefix('# ')} |")
    return "\n".join(lines)


def robustness_table(name: str) -> str:
    """Return how a network fares on worse images, in Markdown."""
    results = json.loads((ROOT / "models" / name / "robustness.json").read_text())
    lines = ["| images | accuracy | answers that changed |", "| --- | ---: | ---: |"]
    for entry in results["entries"]:
        flips = percent(entry["flips"], digits=1) if "flips" in entry else ""
        lines.append(f"| {entry.get('corruption', 'as they are')} | {percent(entry['accuracy'], digits=1)} | {flips} |")
    return "\n".join(lines)


PARTS: dict[str, Callable[[str], str]] = {
    "demo": demo_table,
    "seeds": seeds_text,
    "facts": card_facts,
    "methods": methods_table,
    "recipes": recipes_table,
    "robustness": robustness_table,
    "bundle": bundle_table,
    "int8": int8_table,
    "hard": hard_table,
    **{name: functools.partial(device_tables.part, name) for name in device_tables.TABLES},
}


def fill(text: str) -> str:
    """Return a Markdown text with every `<!-- generated: PART/NAME -->` block written anew from the result files."""

    def block(match: re.Match[str]) -> str:
        part, _, name = match["name"].partition("/")
        return f"{match[1]}{PARTS[part](name)}\n{match[3]}"

    return BLOCK.sub(block, text)


def missing(text: str) -> Iterator[str]:
    """Yield, for each block of a Markdown text whose measurement is not there, what is missing and how to make it."""
    for match in BLOCK.finditer(text):
        why = device_tables.why_missing(*match["name"].split("/", 1))
        if why is not None:
            yield f"{match['name']}: {why}"


def documents() -> list[Path]:
    """Return the documents that have generated blocks."""
    models = ROOT / "models"
    listed = [ROOT / "README.md", ROOT / "devices" / "camera.md", models / "recipes" / "README.md", models / "quantization" / "README.md"]
    return [*listed, *sorted(models.glob("*/card.md"))]
