"""Put finished runs where they are shipped, and write every figure in cards and README from their result files.

python models/publish.py run RUN NAME [--half]     RUN to models/NAME: weights, recipe, results, metrics, card
python models/publish.py demo DEMO NAME            runs/demo's bundle to export/NAME, its results to models/NAME
python models/publish.py seeds NAME RUNS           accuracies of paired seeds in RUNS/{plain,distilled}-SEED to models/NAME/seeds.json
python models/publish.py readme                    the generated parts of README.md and of the cards
"""

import argparse
import json
import math
import re
import shutil
import statistics
from pathlib import Path
from typing import Any

from edgedistill import bundle, recipe
from edgedistill.bundle import write_atomically
from edgedistill.demo.summary import main_rows, megabytes, milliseconds, percent, points, size
from edgedistill.distill import loop, run, weights
from edgedistill.distill.data import open_splits

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- generated: (?P<name>[\w/-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def publish_run(source: Path, name: str, *, half: bool) -> None:
    """Copy a run's files to models/NAME; with `half` the weights are stored as float16 and measured again as they are stored."""
    finished, folder = run.load(source), ROOT / "models" / name
    folder.mkdir(parents=True, exist_ok=True)
    weights.save(finished.student.module, folder / run.STUDENT, weights.read_card(source / run.STUDENT), half=half)
    saved = finished.recipe
    write_atomically(folder / run.RECIPE, recipe.encode(saved, relative_to=folder).encode())
    shutil.copyfile(source / loop.METRICS, folder / loop.METRICS)
    shipped = run.load(folder)
    measured = run.measure(shipped.student, open_splits(saved.data), saved, lambda text, done, total: None)
    results = {**finished.results, "student": measured}
    write_atomically(folder / run.RESULTS, json.dumps(results, indent=2).encode() + b"\n")


def publish_demo(source: Path, name: str) -> None:
    """Copy a demo's bundle to export/NAME and its results.json to models/NAME/demo.json."""
    loaded, target = bundle.load(source / "bundle"), ROOT / "export" / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(loaded.path, target)
    shutil.copyfile(source / "results.json", ROOT / "models" / name / "demo.json")


def publish_seeds(name: str, runs: Path) -> None:
    """Gather test accuracies of the plain and the distilled student of each seed."""
    seeds = []
    for folder in sorted(runs.glob("plain-*")):
        seed = int(folder.name.removeprefix("plain-"))
        plain, distilled = (json.loads((runs / f"{kind}-{seed}" / run.RESULTS).read_text()) for kind in ("plain", "distilled"))
        seeds.append({"seed": seed, "plain": plain["student"]["accuracy"], "distilled": distilled["student"]["accuracy"]})
    write_atomically(ROOT / "models" / name / "seeds.json", json.dumps({"schema": 1, "seeds": seeds}, indent=2).encode() + b"\n")


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


PARTS = {
    "demo": demo_table,
    "seeds": seeds_text,
    "facts": card_facts,
    "methods": methods_table,
    "recipes": recipes_table,
    "robustness": robustness_table,
}


def fill(text: str) -> str:
    """Return a Markdown text with every `<!-- generated: PART/NAME -->` block written anew from the result files."""

    def block(match: re.Match[str]) -> str:
        part, _, name = match["name"].partition("/")
        return f"{match[1]}{PARTS[part](name)}\n{match[3]}"

    return BLOCK.sub(block, text)


def documents() -> list[Path]:
    """Return the documents that have generated blocks."""
    return [ROOT / "README.md", *sorted((ROOT / "models").glob("*/card.md")), ROOT / "models" / "recipes" / "README.md"]


def main() -> None:
    """Run one subcommand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run")
    one.add_argument("source", type=Path)
    one.add_argument("name")
    one.add_argument("--half", action="store_true")
    two = commands.add_parser("demo")
    two.add_argument("source", type=Path)
    two.add_argument("name")
    three = commands.add_parser("seeds")
    three.add_argument("name")
    three.add_argument("runs", type=Path)
    commands.add_parser("readme")
    arguments = parser.parse_args()
    if arguments.command == "run":
        publish_run(arguments.source, arguments.name, half=arguments.half)
    elif arguments.command == "demo":
        publish_demo(arguments.source, arguments.name)
    elif arguments.command == "seeds":
        publish_seeds(arguments.name, arguments.runs)
    for document in documents():
        write_atomically(document, fill(document.read_text()).encode())


if __name__ == "__main__":
    main()
