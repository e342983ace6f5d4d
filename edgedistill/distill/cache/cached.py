"""The teacher's answers from a cache, which is filled view by view as the epochs come to them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from lightning_fabric import Fabric

from edgedistill.distill.cache import locks
from edgedistill.distill.cache.fingerprint import FORMAT, fingerprint_of, is_constant, parts_of
from edgedistill.distill.cache.form import Form, kept
from edgedistill.distill.cache.rows import CHUNK, Rows
from edgedistill.distill.cache.store import Index, Store, caches_in, open_or_create, relatives, size
from edgedistill.distill.learner import teacher_layers
from edgedistill.distill.loader import ViewBatch, Views, load
from edgedistill.distill.teachers.teacher import Answers, Teacher
from edgedistill.errors import DataError, ModelError
from edgedistill.recipe import Recipe, is_active

#: Images that the teacher is asked about at a time while a cache is filled: always as many, so that its bits do not depend on who asks.
BATCH = 64


@dataclass(frozen=True)
class Surroundings:
    """What a cache works in: the training's processes, and whom it tells what."""

    fabric: Fabric
    progress: Callable[[str, int, int], None] = lambda text, done, total: None
    say: Callable[[str], None] = lambda text: None


class Cached:
    """Answers from the disk; in epochs with a term on features that are not kept, from the teacher itself."""

    def __init__(self, teacher: Teacher, recipe: Recipe, around: Surroundings) -> None:
        self.teacher, self.recipe, self.around = teacher, recipe, around
        self.views = recipe.data.views or recipe.train.epochs
        self.view, self.layers = 0, tuple[str, ...]()
        self.store: Store | None = None
        self.asked = self.filled_before = 0

    def prepare(self, views: Views, epoch: int) -> None:
        """Fill what is missing of this epoch's view: each process its part of the chunks, then all wait for each other."""
        self.layers = layers_in(self.recipe, epoch)
        if self.is_online:
            return
        if self.store is None:
            self.store = self._open(views)
        self.view = 0 if is_constant(views.augment) else views.view
        if self.layers:
            self._keep_features(views)
        self._fill(views)

    @property
    def is_online(self) -> bool:
        """Whether the teacher itself answers in this epoch."""
        return bool(self.layers) and not self.recipe.cache.features

    def answer(self, batch: ViewBatch, epoch: int) -> Answers:
        """Return the answers on a batch of this epoch's view."""
        if self.is_online:
            self.asked += len(batch.positions) * self.around.fabric.world_size
            return self.teacher.answer(batch, self.layers)
        assert self.store is not None, "prepare comes before answer"
        positions = batch.positions.numpy()
        logits = self.store.index.form.decode(self.store.logits.read(self.view, positions))
        features = {name: self.store.features[name].read(self.view, positions)["feature"] for name in self.layers}
        return Answers(torch.from_numpy(logits), {name: torch.from_numpy(rows.astype(np.float32)) for name, rows in features.items()})

    def facts(self) -> dict[str, Any]:
        """Return what results.json tells of the cache: how many views the teacher answered in this training, too."""
        if self.store is None:
            return {"teacher_forwards": self.asked}
        return {
            "fingerprint": self.store.path.name,
            "bytes": self.store.bytes,
            "views": self.store.logits.filled(),
            "views_filled_before": self.filled_before,
            "teacher_forwards": self.asked,
        }

    def _open(self, views: Views) -> Store:
        """Open or make the cache and tell which one it is, and what is different about others of the same data."""
        folder, fabric, recipe = folder_of(self.recipe), self.around.fabric, self.recipe
        form = Form.of(recipe.cache, len(views.images.classes))
        parts = parts_of(self.teacher, views, form)
        index = Index(
            format=FORMAT,
            parts=parts,
            images=len(views.images),
            chunk=CHUNK,
            form=form,
            teacher=dict(self.teacher.facts),
            recipe=msgspec.to_builtins(recipe),
        )
        is_new = folder / fingerprint_of(parts) not in caches_in(folder)
        fabric.barrier()
        store = open_or_create(folder, index)
        if fabric.global_rank == 0:
            store.reserve(1 if is_constant(views.augment) else self.views)
            self.filled_before = store.logits.filled()
            store.touch()
            self._tell(store, is_new=is_new)
        fabric.barrier()
        return store

    def _tell(self, store: Store, *, is_new: bool) -> None:
        say, views = self.around.say, store.logits.views
        before = f"{self.filled_before} of {views} views filled before" if self.filled_before else "empty so far"
        say(f"view cache {store.path}: {size(views * store.logits.view_bytes)}, {before}")
        for path, different in relatives(store.path.parent, store.index.parts)[:1] if is_new else ():
            say(f"the cache {path.name[:12]} of the same data is not used: {'; '.join(different[:6])}")

    def _keep_features(self, views: Views) -> None:
        """Make room for the features of this epoch's layers, and tell how much."""
        assert self.store is not None
        store, fabric = self.store, self.around.fabric
        if new := [name for name in self.layers if name not in store.features]:
            shapes = shapes_of(self.teacher, views, new)
            fabric.barrier()
            if fabric.global_rank == 0:
                store.add_features(shapes)
        fabric.barrier()
        store.reload()
        if fabric.global_rank == 0:
            count = 1 if is_constant(views.augment) else self.views
            needed = sum(store.features[name].lacking_bytes(count) for name in self.layers)
            if needed:
                self.around.say(f"features of {', '.join(self.layers)} take {size(needed)} in {store.path}")
            store.reserve(count, self.layers)
        fabric.barrier()

    def _files(self) -> dict[str, Rows]:
        """Return the files that this epoch reads: the logits' under the empty name, and those of its features."""
        assert self.store is not None
        return {"": self.store.logits, **{name: self.store.features[name] for name in self.layers}}

    def _missing(self) -> list[int]:
        return sorted({int(chunk) for rows in self._files().values() for chunk in rows.missing(self.view)})

    def _fill(self, views: Views) -> None:
        """Fill the missing chunks of the view. The first process holds the view's lock for all processes of this training."""
        fabric = self.around.fabric
        with self._lock():
            if fabric.global_rank == 0:
                self.asked += sum(len(self._files()[""].positions(chunk)) for chunk in self._missing())
            fabric.barrier()
            # other processes of this training only fill chunks of theirs, so this list holds however late it is made
            mine = [chunk for chunk in self._missing() if chunk % fabric.world_size == fabric.global_rank]
            try:
                self._fill_chunks(views, mine)
            except OSError as error:
                raise DataError(f"the view cache {self._files()[''].path.parent} cannot be written: {error}") from error
            fabric.barrier()
            if missing := self._missing():
                raise DataError(
                    f"chunks {missing[:5]} of view {self.view} are still missing in {self._files()[''].path.parent} after all processes "
                    "filled theirs: give a cache.folder that all machines of the training share"
                )

    def _lock(self) -> AbstractContextManager[None]:
        """Return the view's lock where it is needed: in the first process, when something is missing."""
        if self.around.fabric.global_rank or not self._missing():
            return nullcontext()
        chunks = self._files()[""].chunks
        text = f"waiting for another training to fill view {self.view}"
        tick = lambda: self.around.progress(text, chunks - len(self._missing()), chunks)  # noqa: E731
        return locks.exclusive(self._files()[""].path.parent / f"view-{self.view:04d}.lock", waiting=tick)

    def _fill_chunks(self, views: Views, chunks: Sequence[int]) -> None:
        files, rows = self._files(), self._files()[""]
        missing = {name: set(file.missing(self.view)) for name, file in files.items()}
        for done, (chunk, answers) in enumerate(self._answered(views, chunks), start=1):
            for name, file in files.items():
                if chunk in missing[name]:
                    file.write(self.view, chunk, self._rows(name, answers, file))
            total = self.views * rows.chunks
            self.around.progress("asking the teacher", min(total, self.view * rows.chunks + done * self.around.fabric.world_size), total)

    def _answered(self, views: Views, chunks: Sequence[int]) -> Iterator[tuple[int, list[Answers]]]:
        """Ask the teacher about each of these chunks, in batches of one size."""
        rows = self._files()[""]
        batches = {chunk: [rows.positions(chunk)[i : i + BATCH] for i in range(0, CHUNK, BATCH)] for chunk in chunks}
        wanted = {chunk: [list(part) for part in parts if part] for chunk, parts in batches.items()}
        if not chunks:  # no worker processes for nothing
            return
        loaded = iter(load(views, [part for parts in wanted.values() for part in parts], workers=self.recipe.train.workers))
        for chunk, parts in wanted.items():
            yield chunk, [self.teacher.answer(next(loaded), self.layers) for _ in parts]

    def _rows(self, name: str, answers: Sequence[Answers], file: Rows) -> np.ndarray:
        """Return a chunk's rows of one file."""
        assert self.store is not None
        if name:
            features = torch.cat([answer.features[name] for answer in answers]).float().cpu().numpy()
            rows = np.empty(len(features), file.dtype)
            rows["feature"] = kept(features, self.store.index.form.number)
            return rows
        logits = torch.cat([answer.logits for answer in answers]).float().cpu().numpy()
        if logits.shape[1] != self.store.index.form.classes:
            raise ModelError(f"the teacher answers {logits.shape[1]} logits, the data has {self.store.index.form.classes} classes")
        return self.store.index.form.encode(logits)


def folder_of(recipe: Recipe) -> Path:
    """Return where a recipe's caches are kept."""
    return Path(recipe.cache.folder).expanduser() if recipe.cache.folder else default_folder()


def default_folder() -> Path:
    """Return where caches are kept if nothing else is said."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgedistill" / "views"


def layers_in(recipe: Recipe, epoch: int) -> tuple[str, ...]:
    """Return the layers of the teacher that terms ask for in an epoch."""
    return teacher_layers([term for term in recipe.distill if term.weight > 0 and is_active(term, epoch)])


def shapes_of(teacher: Teacher, views: Views, layers: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a teacher's layers on one view, without the batch dimension."""
    batch = next(iter(load(views, [[0]], workers=0)))
    return {name: tuple(feature.shape[1:]) for name, feature in teacher.answer(batch, layers).features.items()}
