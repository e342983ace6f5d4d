"""A folder that appears in its place complete or not at all, and leaves the old one untouched on any failure.

A process that is killed cannot clear up behind itself; the next export to the same place does it.
"""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgedistill.bundle import MANIFEST_NAME, decode_manifest
from edgedistill.errors import BundleError, ConvertError

#: Held by the export that a workshop belongs to; a workshop whose lock is free was left by one that was killed.
_LOCK = "lock"


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Give an empty folder to build a bundle in; at the end of the block it takes the place of `out`.

    What lies in an old bundle's folder beside the files its manifest names (a card, notes) is carried over. Raises
    ConvertError if `out` holds something that is not a bundle, or if it cannot be written.
    """
    place = Path(os.path.realpath(out))
    check_place(place)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        clear_up(place)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.") as workshop, _owned(Path(workshop)):
            folder = Path(workshop, "new")
            folder.mkdir()
            yield folder
            if place.exists():
                _carry_over(place, folder)
            _swap(folder, place, aside=Path(workshop, "old"))
    except OSError as error:
        raise ConvertError(f"cannot write the bundle {out}: {error}; free some space, or choose another folder with --out") from error


def clear_up(place: Path) -> None:
    """Remove what exports to this place left when they were killed; a bundle that one of them had put aside comes back first."""
    for workshop in place.parent.glob(f".{glob.escape(place.name)}.*"):
        try:
            with (workshop / _LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if (workshop / "old").exists() and not place.exists():
                    (workshop / "old").rename(place)
                shutil.rmtree(workshop)
        except OSError:  # not a workshop, or its owner is at work, or another export clears it up
            continue


@contextmanager
def _owned(workshop: Path) -> Iterator[None]:
    """Hold a workshop's lock, which goes with its process however that ends; it gets its name when it is held."""
    unnamed = workshop / f"{_LOCK}.new"
    with unnamed.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        unnamed.rename(workshop / _LOCK)
        yield


def check_place(place: Path) -> None:
    """Raise ConvertError unless the place is free, an empty folder, or a bundle that may be replaced."""
    if not place.exists():
        return
    if not place.is_dir():
        raise ConvertError(f"{place} is a file, a bundle is a folder; choose another place with --out")
    if not (place / MANIFEST_NAME).is_file() and any(place.iterdir()):
        raise ConvertError(f"{place} is not empty and not a bundle (it has no {MANIFEST_NAME}); choose another folder with --out")


def _carry_over(old: Path, new: Path) -> None:
    manifest = old / MANIFEST_NAME
    named = {MANIFEST_NAME}
    if manifest.is_file():
        try:
            content = decode_manifest(manifest.read_bytes(), where=str(manifest))
        except BundleError as error:
            raise ConvertError(f"{old} cannot be replaced: {error}; remove the folder, or choose another one with --out") from error
        named |= {model.file for model in content.files} | ({content.golden.file} if content.golden else set())
        named |= {calibration.file for calibration in content.provenance.calibrations}
    for item in old.iterdir():
        if item.name in named or (new / item.name).exists():
            continue
        if item.is_dir() and not item.is_symlink():
            shutil.copytree(item, new / item.name, symlinks=True)
        else:
            shutil.copy2(item, new / item.name, follow_symlinks=False)


def _swap(new: Path, place: Path, *, aside: Path) -> None:
    """Put `new` in its place; the old folder goes aside first, and comes back if that fails, by `clear_up` if the process is killed."""
    replaces = place.exists()
    if replaces:
        place.rename(aside)
    try:
        new.rename(place)
    except BaseException:
        if replaces:
            aside.rename(place)
        raise
