"""A recipe with a target of bytes or latency to the same recipe with the ratio that keeps it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
import torch

from edgedistill import recipe
from edgedistill.convert.pixels import model_pixels
from edgedistill.distill import networks, pruning, run
from edgedistill.distill.data import Splits, open_splits
from edgedistill.distill.predict import preprocess_of
from edgedistill.errors import RecipeError
from edgedistill.recipe import Prune, Quantization, Recipe
from edgedistill.thinning import board, files
from edgedistill.thinning.search import MOST_TRIALS, Target, search

Progress = Callable[[str, int, int], None]
Say = Callable[[str], None]
#: Images for the ranges of an int8 trial.
IMAGES = 32
#: What the metadata of the exported file may be longer than that of a trial, in bytes.
METADATA = 512


def with_target(wanted: Recipe, *, latency_ms: float | None, most_bytes: int | None, profile: Path | None) -> Recipe:
    """Return the recipe with another target of pruning, and the other keys of its table as they are; RecipeError for two targets."""
    if latency_ms is None and most_bytes is None and profile is None:
        return wanted
    own = wanted.student.prune
    keys = {field: getattr(own, field) for field in own.__struct_fields__} if own is not None else {}
    if latency_ms is not None or most_bytes is not None:
        keys |= {"ratio": None, "macs": None, "latency_ms": latency_ms, "bytes": most_bytes, "profile": None}
    if profile is not None:
        keys["profile"] = str(profile.absolute())
    try:
        prune = Prune(**keys)
    except ValueError as error:
        raise RecipeError(f"{error}; give one of --target-latency and --target-bytes, and --profile with the first") from error
    return _with(wanted, prune)


def resolve(wanted: Recipe, out: Path, *, resume: bool, progress: Progress, say: Say) -> Recipe:
    """Return the recipe with the ratio that its target needs, and without pruning where the whole student keeps the target.

    Args:
        out: folder of the run; with `resume`, the ratio that was found for it is taken again.
        progress: told each trial.
        say: told what was found.

    Raises RecipeError for a target out of reach and for several processes, which would find several ratios.
    """
    prune = wanted.student.prune
    if prune is None or prune.ratio is not None or (prune.bytes is None and prune.latency_ms is None):
        return wanted
    if resume and (former := _former(wanted, out)) is not None:
        return former
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 or wanted.train.devices * wanted.train.nodes > 1:
        raise RecipeError("student.prune: several processes would find several ratios; find it by one with --smoke, and give it as ratio")
    pruning.check(_with(wanted, msgspec.structs.replace(prune, ratio=0.5)).student)
    ratio = _search(wanted, prune, progress, say)
    return _with(wanted, msgspec.structs.replace(prune, ratio=ratio) if ratio is not None else None)


def _search(wanted: Recipe, prune: Prune, progress: Progress, say: Say) -> float | None:
    splits = open_splits(wanted.data)
    torch.manual_seed(wanted.seed)
    plan = pruning.plan_of(networks.build(wanted.student, splits.classes), prune, seed=wanted.seed)
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(wanted, prune, splits, Path(folder), progress, say)
        target = trials.target()
        found = search(plan, target, lambda ratio: trials.measure(plan, ratio))
    if found is None:
        say(f"the whole student keeps {target.name} = {target.show(target.most)}, so that nothing is pruned")
        return None
    macs, parameters = found.size.macs / plan.size.macs, found.size.parameters / plan.size.parameters
    size = f"{macs:.1%} of its multiply-accumulates and {parameters:.1%} of its parameters stay"
    reached = f"{prune.file} has {target.show(found.value)} of {target.show(target.most)}"
    say(f"pruning ratio {found.ratio:.4f}: {reached}; {size}")
    return found.ratio


class Trials:
    """Writes and measures what a search asks for."""

    def __init__(self, wanted: Recipe, prune: Prune, splits: Splits, folder: Path, progress: Progress, say: Say) -> None:
        self.wanted, self.prune, self.splits, self.folder, self.progress, self.say = wanted, prune, splits, folder, progress, say
        self.done = 0
        self.factor = 1.0

    def target(self) -> Target:
        """Return what is searched for; a latency on a board needs a reference, which is measured here."""
        if self.prune.bytes is not None:
            return Target("bytes", self.prune.bytes, "parameters", lambda value: f"{value:,.0f} bytes", safety=0.005)
        assert self.prune.latency_ms is not None
        where = "here"
        if self.prune.profile is not None:
            where = self._on_board(self.prune.profile)
        return Target("latency_ms", self.prune.latency_ms, "macs", lambda value: f"{value:.3g} ms {where}")

    def measure(self, plan: pruning.Plan, ratio: float) -> float:
        """Return bytes or milliseconds of the file at a ratio, on the board if there is one."""
        self.progress("trying widths", self.done, MOST_TRIALS)
        network = pruning.thin(plan, ratio) if ratio else plan.network
        path = self.folder / f"trial-{self.done}.tflite"
        pixels = model_pixels(list(self.splits.train.balanced(IMAGES)), preprocess_of(network, self.wanted.student))
        model = files.write(
            network, self.wanted.student, path, quantization=self._quantization(), pixels_nhwc=pixels, name=self.wanted.name
        )
        self.done += 1
        self.progress("trying widths", self.done, MOST_TRIALS)
        if self.prune.bytes is not None:
            return model.bytes + METADATA
        return files.latency_ms(path, model, threads=self.prune.threads) * self.factor

    def _quantization(self) -> str | None:
        """Return the recipe of an int8 target: the one that `export` names, or the one that stays in one part for every network."""
        if self.prune.file == "tflite-fp32":
            return None
        named = self.wanted.export.int8
        return str(named) if named in get_args(Quantization) else "static_int8_float_islands"

    def _on_board(self, folder: str) -> str:
        """Measure the reference here, set the factor, say what it rests on, and return how values are called."""
        if self.prune.file != "tflite-fp32":
            raise RecipeError(
                "student.prune.profile: estimates are of fp32, because int8 gains differ from board to board; set file = tflite-fp32"
            )
        target = board.read_board(folder)
        spec = recipe.Student(model=board.NETWORK, input_size=board.SIDE)
        network = networks.build(spec, tuple(map(str, range(1000))))
        path, blank = self.folder / "reference.tflite", np.zeros((1, board.SIDE, board.SIDE, 3), np.uint8)
        self.progress("measuring the reference network", 0, 1)
        model = files.write(network, spec, path, quantization=None, pixels_nhwc=blank, name="reference")
        here_ms = files.latency_ms(path, model, threads=self.prune.threads)
        self.progress("measuring the reference network", 1, 1)
        self.factor = target.factor(here_ms)
        self.say(target.basis(here_ms))
        return f"on {target.name} (estimate)"


def _former(wanted: Recipe, out: Path) -> Recipe | None:
    """Return the recipe of a run in `out` when it is this one with a ratio that was found, or without pruning."""
    if not (out / run.RECIPE).is_file():
        return None
    former = recipe.load(out / run.RECIPE).student.prune
    same = former is None or msgspec.structs.replace(former, ratio=None) == wanted.student.prune
    return _with(wanted, former) if same else None


def _with(wanted: Recipe, prune: Prune | None) -> Recipe:
    return msgspec.structs.replace(wanted, student=msgspec.structs.replace(wanted.student, prune=prune))
