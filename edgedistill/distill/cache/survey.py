"""All caches of a folder: what is in them, and taking them away. Whether they still hold is said in `verify`."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from edgedistill.distill.cache import locks
from edgedistill.distill.cache.store import INDEX, Store, caches_in, lock_of
from edgedistill.errors import DataError


def find(folder: Path, name: str) -> list[Path]:
    """Return the caches whose fingerprint begins with a name, or those of all for 'all'; DataError for none or several."""
    known = list(caches_in(folder))
    if name == "all":
        return known
    found = [path for path in known if path.name.startswith(name)]
    if len(found) != 1:
        what = "fits no cache" if not found else f"fits {len(found)} caches, give more digits"
        raise DataError(f"{name!r} {what} in {folder}; known: {', '.join(path.name[:12] for path in known) or 'none'}")
    return found


def bytes_of(path: Path) -> int:
    """Return the bytes of a cache's files."""
    return sum(file.stat().st_size for file in path.iterdir())


def describe(path: Path) -> dict[str, Any]:
    """Return what `cache info` tells of a cache; `problem` is what is wrong with it, or None."""
    size = bytes_of(path)
    try:
        store = Store(path)
        filled, views = store.logits.filled(), store.logits.views
    except DataError as error:
        return {"fingerprint": path.name, "bytes": size, "problem": str(error)}
    index, data = store.index, store.index.recipe["data"]
    return {
        "fingerprint": path.name,
        "bytes": size,
        "problem": None,
        "teacher": index.teacher.get("model"),
        "data": data["source"],
        "images": index.images,
        "views": views,
        "views_filled": filled,
        "precision": index.form.precision,
        "top_k": index.form.top_k,
        "features": list(index.features),
        "seed": index.parts["views"]["seed"],
        "last_used": (path / INDEX).stat().st_mtime,
    }


def outdated(folder: Path, *, older_than_days: float, now: float | None = None) -> list[Path]:
    """Return the caches that were last used longer ago than this."""
    limit = (now or time.time()) - older_than_days * 86_400
    return [path for path in caches_in(folder) if _last_used(path) < limit]


def _last_used(path: Path) -> float:
    file = path / INDEX
    return (file if file.exists() else path).stat().st_mtime


def remove(path: Path) -> bool:
    """Remove a cache; returns False, and leaves it alone, when a training uses it."""
    path.parent.joinpath("locks").mkdir(exist_ok=True)
    with locks.if_free(lock_of(path)) as free:
        if free:
            # under another name first: a removal that is interrupted leaves no cache behind that looks whole
            away = path.with_name(f".removed-{path.name}")
            path.rename(away)
            shutil.rmtree(away)
        return free


def plain_files(folder: Path, *, older_than_days: float = 0.0) -> list[Path]:
    """Return the files with answers on whole validation and test sets, those last used longer ago than this."""
    limit = time.time() - older_than_days * 86_400
    return [file for file in sorted((folder / "plain").glob("*.npy")) if file.stat().st_mtime <= limit]
