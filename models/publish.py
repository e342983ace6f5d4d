"""Put finished runs where they are shipped, and write every figure in cards and README from their result files.

python models/publish.py run RUN NAME [--half]     RUN to models/NAME: weights, recipe, results, metrics, card
python models/publish.py demo DEMO NAME            runs/demo's bundle to export/NAME, its results to models/NAME
python models/publish.py bundles                   all of export/ anew, by the converter, from the shipped students
python models/publish.py seeds NAME RUNS           accuracies of paired seeds in RUNS/{plain,distilled}-SEED to models/NAME/seeds.json
python models/publish.py readme                    the generated parts of README.md, of the cards and of devices/camera.md

What the camera loop's tests measured is written straight to devices/BOARD/measured; a part whose file is missing says so.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from published_tables import documents, fill, missing

from edgedistill import bundle, pipeline, recipe
from edgedistill.bundle import write_atomically
from edgedistill.distill import loop, run, weights
from edgedistill.distill.data import open_splits

ROOT = Path(__file__).parents[1]


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


#: Changes of the [export] table for each shipped bundle; it must be 10 MB or less.
BUNDLES: dict[str, dict[str, Any]] = {
    "fashion-mnist-mobilenetv3": {},
    "garments-mobilenetv2": {"fp32": False},
}


def publish_bundles() -> None:
    """Export every shipped student into export/ again."""
    for name, changes in BUNDLES.items():
        pipeline.export(
            ROOT / "models" / name,
            ROOT / "export" / name,
            changes=changes,
            progress=lambda text, done, total: print(text, file=sys.stderr, flush=True),
        )


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
    commands.add_parser("bundles")
    commands.add_parser("readme")
    arguments = parser.parse_args()
    if arguments.command == "run":
        publish_run(arguments.source, arguments.name, half=arguments.half)
    elif arguments.command == "demo":
        publish_demo(arguments.source, arguments.name)
    elif arguments.command == "bundles":
        publish_bundles()
    elif arguments.command == "seeds":
        publish_seeds(arguments.name, arguments.runs)
    for document in documents():
        text = fill(document.read_text())
        write_atomically(document, text.encode())
        for what in missing(text):
            print(f"{document.relative_to(ROOT)}: {what}", file=sys.stderr)


if __name__ == "__main__":
    main()
