"""Compare methods of distillation at equal budget: one command trains what is missing, skips what is done, and writes the figures.

python models/compare.py cifar10 --seeds 3
python models/compare.py garments --seeds 3

models/comparison/PAIR.toml is the recipe of plain distillation for the pair; each method is a change of it. The data and weights
come from models/evaluation_data.py. Runs are kept in runs/compare/PAIR/METHOD-SEED, figures go to models/comparison-PAIR/results.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from edgedistill import recipe
from edgedistill.bundle import write_atomically
from edgedistill.cli.output import note, progress_bars
from edgedistill.distill import schedules
from edgedistill.recipe import BornAgain, Recipe, Recursive, Term

ROOT = Path(__file__).parents[1]
Change = Callable[[Recipe], Recipe]


def terms(*wanted: Term) -> Change:
    """Return the change that makes these the terms of the loss."""
    return lambda base: msgspec.structs.replace(base, distill=wanted)


def label(weight: float = 0.1, smoothing: float = 0.0) -> Term:
    """Return the term on the labels."""
    return Term(loss="cross_entropy", weight=weight, label_smoothing=smoothing)


def features(loss: str, weight: float) -> Change:
    """Return the change to a term on the layers that the pair's recipe names, beside the labels."""
    return lambda base: msgspec.structs.replace(base, distill=(label(1.0), Term(loss=loss, weight=weight, layers=LAYERS[base.name])))


def only_first_teacher(base: Recipe) -> Recipe:
    """Return the recipe with the first of its teachers."""
    return msgspec.structs.replace(base, teacher=base.teachers[0])


def smoothed(base: Recipe) -> Recipe:
    """Return the control with label smoothing."""
    return terms(label(1.0, smoothing=0.1))(base.plain())


def born_again(base: Recipe) -> Recipe:
    """Return two generations of the student without another teacher."""
    return msgspec.structs.replace(base, teacher=None, schedule=BornAgain(generations=2))


def assistant(base: Recipe) -> Recipe:
    """Return the way over a network between the teacher and the student."""
    between = msgspec.structs.replace(base.student, **ASSISTANTS[base.name])
    return msgspec.structs.replace(base, schedule=Recursive(assistants=(between,)))


#: Student's layer to teacher's layer for terms on features, one in the middle of both networks and one behind it.
LAYERS: dict[str, dict[str, str]] = {
    "cifar10": {"blocks.1": "blocks.2", "blocks.3": "blocks.4"},
    "garments": {"blocks.2": "blocks.2", "blocks.4": "blocks.4"},
}
ASSISTANTS: dict[str, dict[str, Any]] = {
    "cifar10": {"model": "timm:mobilenetv3_small_100"},
    "garments": {"model": "timm:tf_efficientnet_lite0", "weights": str(ROOT / "runs/pretrained/tf_efficientnet_lite0.safetensors")},
}
#: Weights and temperatures as in the papers' CIFAR experiments, where they have any.
METHODS: dict[str, Change] = {
    "plain": lambda base: base.plain(),
    "label-smoothed": smoothed,
    "kd": lambda base: base,
    "dkd": terms(label(1.0), Term(loss="dkd", alpha=1.0, beta=8.0, temperature=4.0)),
    "dist": terms(label(1.0), Term(loss="dist", weight=2.0, temperature=4.0)),
    "logit-standardized": terms(label(), Term(loss="kd", weight=9.0, temperature=2.0, standardize=True)),
    "hints": features("hint", 1.0),
    "attention": features("attention", 1.0),
    "ensemble": lambda base: base,
    "born-again": born_again,
    "assistant": assistant,
}


def method(base: Recipe, name: str, seed: int) -> Recipe:
    """Return the recipe of a method with a seed; all but the ensemble have the first teacher only."""
    one = base if name == "ensemble" else only_first_teacher(base)
    return msgspec.structs.replace(METHODS[name](one), seed=seed)


def figures(wanted: Recipe, name: str, results: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of one run."""
    student = {key: results["student"][key] for key in ("accuracy", "nll", "ece")}
    seconds = sum(stage["seconds"] for stage in results["stages"]) if "stages" in results else results["seconds"]
    teacher = (results.get("teacher") or {}).get("accuracy")
    return {"method": name, "seed": wanted.seed, **student, "teacher_accuracy": teacher, "seconds": round(seconds, 1)}


def write(pair: str, base: Recipe, runs: list[dict[str, Any]], last: dict[str, Any]) -> None:
    """Write models/comparison-PAIR/results.json anew from all runs."""
    student = {key: last["student"][key] for key in ("model", "parameters", "macs", "input_size")}
    teachers = [spec.model for spec in base.teachers]
    images = last["data"]["images"]
    train = {key: getattr(base.train, key) for key in ("epochs", "batch_size", "optimizer", "lr", "weight_decay")}
    whole = {"schema": 1, "name": f"comparison-{pair}", "student": student, "teachers": teachers, "images": images, "train": train}
    whole |= {"runs": runs, "environment": last["environment"]}
    folder = ROOT / "models" / f"comparison-{pair}"
    folder.mkdir(exist_ok=True)
    write_atomically(folder / "results.json", json.dumps(whole, indent=1).encode() + b"\n")


def main() -> None:
    """Train what is missing of a pair, seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", choices=sorted(LAYERS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="A few batches of each, into a folder of its own; no figures are written.")
    parser.add_argument("--methods", default=",".join(METHODS), help="Names separated by commas; all by default.")
    arguments = parser.parse_args()
    base = recipe.load(ROOT / "models" / "comparison" / f"{arguments.pair}.toml")
    runs = []
    with progress_bars() as tell:
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            for name in arguments.methods.split(","):
                folder = ROOT / "runs" / ("compare-smoke" if arguments.smoke else "compare") / arguments.pair / f"{name}-{seed}"
                wanted = method(base, name, seed)
                wanted = wanted.smoke() if arguments.smoke else wanted
                results = schedules.distill(
                    wanted, folder, resume=folder.exists(), progress=lambda text, d, t, title=folder.name: tell(f"{title}: {text}", d, t)
                )
                runs.append(figures(wanted, name, results))
                note(f"{name}, seed {seed}: {runs[-1]['accuracy']:.2%} ({runs[-1]['seconds']:.0f} s)")
                if not arguments.smoke:
                    write(arguments.pair, base, runs, results)


if __name__ == "__main__":
    main()
