"""Whether a cache still says what its teacher would: the teacher is built again from the stored recipe and asked about a random sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from edgedistill.bundle import Preprocess
from edgedistill.distill.assemble import with_budget
from edgedistill.distill.cache.cached import BATCH
from edgedistill.distill.cache.fingerprint import differences, parts_of
from edgedistill.distill.cache.store import Store
from edgedistill.distill.data import open_splits
from edgedistill.distill.images import ImageSet
from edgedistill.distill.loader import Views, collate
from edgedistill.distill.teachers import Teacher, open_teacher
from edgedistill.errors import DataError, EdgeDistillError
from edgedistill.recipe import Recipe

#: How far a teacher's answer may be from an earlier one, as a part of its largest logit: batches of other sizes and other machines
#: add up in another order, and some in 19 bits.
NOISE = 1e-3

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Verdict:
    """How many answers were compared, the difference that is worst for what is allowed there, and what is wrong, or None."""

    fingerprint: str
    compared: int = 0
    difference: float = 0.0
    allowed: float = 0.0
    problem: str | None = None


class Made(NamedTuple):
    """What a cache was made from, built again."""

    store: Store
    recipe: Recipe
    images: ImageSet
    teacher: Teacher

    def views(self, view: int) -> Views:
        """Return the views that the teacher was asked about."""
        spec = msgspec.convert(self.store.index.parts["views"]["preprocess"], Preprocess)
        return Views(self.images, seed=self.recipe.seed, view=view, augment=self.recipe.data.augment, spec=spec)


def verify(path: Path, *, sample: int, seed: int | None = None, progress: Progress = lambda text, done, total: None) -> Verdict:
    """Compare a random sample of the kept answers with new ones.

    Args:
        sample: the number of answers, of all filled views.
        seed: of the sample; another one each time without it.
    """
    try:
        made = build(path, progress)
        ours = parts_of(made.teacher, made.views(0), made.store.index.form)
        places = places_of(made.store, sample, np.random.default_rng(seed))
    except (EdgeDistillError, msgspec.ValidationError) as error:
        return Verdict(path.name, problem=str(error))
    if changed := differences(ours, made.store.index.parts):
        return Verdict(path.name, problem="what it was made from has changed: " + "; ".join(changed))
    return compare(made, places, progress)


def build(path: Path, progress: Progress) -> Made:
    """Open the data and the teacher of a cache's recipe."""
    store = Store(path)
    recipe = msgspec.convert(store.index.recipe, Recipe)
    if not recipe.teachers:
        raise DataError("its teacher was made in the course of a schedule and cannot be built again from the recipe alone")
    splits = open_splits(recipe.data)
    teacher = open_teacher(recipe, splits, progress=progress)
    assert teacher is not None, "a recipe with teachers has one"
    return Made(store, recipe, with_budget(recipe, splits)[1], teacher)


def places_of(store: Store, count: int, rng: np.random.Generator) -> dict[int, np.ndarray]:
    """Return positions of filled images to look at, by view."""
    rows = store.logits
    chunks = [(view, chunk) for view in range(rows.views) for chunk in sorted(set(range(rows.chunks)) - set(rows.missing(view).tolist()))]
    chosen: dict[int, list[int]] = {}
    for place in rng.integers(len(chunks), size=count) if chunks else ():
        view, chunk = chunks[place]
        chosen.setdefault(view, []).append(int(rng.choice(np.array(rows.positions(chunk)))))
    return {view: np.unique(positions) for view, positions in chosen.items()}


def compare(made: Made, places: dict[int, np.ndarray], progress: Progress) -> Verdict:
    """Ask the teacher about these places, and compare in the form that is kept."""
    form, total = made.store.index.form, sum(map(len, places.values()))
    found: list[tuple[float, float]] = [(0.0, 0.0)]
    done = 0
    for view, positions in places.items():
        shown = made.views(view)
        for batch in (positions[i : i + BATCH] for i in range(0, len(positions), BATCH)):
            logits = made.teacher.answer(collate([shown[int(i)] for i in batch])).logits.float().cpu().numpy()
            kept, new = form.beside(made.store.logits.read(view, batch), logits)
            off = np.abs(kept - new)
            # a decision may have been raised by one step beside the half step of rounding
            allowed = 2 * np.finfo(form.number).eps * np.abs(new) + NOISE * np.abs(new).max(axis=1, keepdims=True)
            worst = (off - allowed).argmax()
            found.append((float(off.flat[worst]), float(allowed.flat[worst])))
            done += len(batch)
            progress("asking the teacher again", done, total)
    off, allowed = max(found, key=lambda pair: pair[0] - pair[1] if pair[1] else -np.inf)
    problem = f"an answer differs by {off:.3g}, {allowed:.3g} is allowed" if off > allowed else None
    return Verdict(made.store.path.name, done, off, allowed, problem)


def as_json(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict for `--json`."""
    return msgspec.to_builtins(verdict)
