"""One of several processes that train together, started by torchrun with a folder of recipes.

It trains plain.toml into plain/, dropout.toml into whole/, the same into cut/ with an interruption and a resume, taught.toml into
taught/ and hinted.toml into hinted/; in lost/ the second process is gone in the middle. What it saw itself goes to seen-RANK.json:
positions by epoch, which chunks of the view cache it filled, and how the other one's end was told.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgedistill import recipe
from edgedistill.distill import loop, run
from edgedistill.distill.cache.rows import Rows
from edgedistill.errors import TrainingError

STOP_AT = 34


def leave() -> None:
    """End this process at once, as if it had been killed, but in a way that torchrun does not answer by ending the others."""
    os._exit(0)


def interrupt() -> None:
    """Stop as Ctrl-C would."""
    raise KeyboardInterrupt


class Watched:
    """Stands in front of `loop.batch_of`: notes positions, and does something at a certain call."""

    def __init__(self, act: Callable[[], None] = interrupt, *, at: int | None = None) -> None:
        self.positions: dict[int, list[int]] = {}
        self.act, self.left, self.batch_of = act, at, loop.batch_of

    def __call__(self, job: Any, piece: Any, epoch: int) -> Any:
        self.positions.setdefault(epoch, []).extend(piece.positions.tolist())
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                self.act()
        return self.batch_of(job, piece, epoch)


def write_down(folder: Path, seen: dict[str, Any]) -> None:
    """Write what this process saw."""
    (folder / f"seen-{os.environ['RANK']}.json").write_text(json.dumps(seen))


def main() -> None:
    """Train, and write down what this process saw."""
    folder = Path(sys.argv[1])
    plain, dropout, taught, hinted = (recipe.load(folder / f"{name}.toml") for name in ("plain", "dropout", "taught", "hinted"))
    batch_of, write, chunks = loop.batch_of, Rows.write, []

    def noted(rows: Rows, view: int, chunk: int, values: Any) -> None:
        chunks.append([view, chunk])
        write(rows, view, chunk, values)

    loop.batch_of = watched = Watched()  # type: ignore[assignment]
    run.distill(plain, folder / "plain")
    loop.batch_of = batch_of
    run.distill(dropout, folder / "whole")
    loop.batch_of = Watched(at=STOP_AT)  # type: ignore[assignment]
    try:
        run.distill(dropout, folder / "cut")
    except KeyboardInterrupt:
        loop.batch_of = batch_of
        run.distill(dropout, folder / "cut", resume=True)
    Rows.write = noted  # type: ignore[method-assign]
    run.distill(taught, folder / "taught")
    run.distill(hinted, folder / "hinted")
    seen: dict[str, Any] = {"positions": watched.positions, "chunks": chunks}
    write_down(folder, seen)
    loop.batch_of = Watched(leave, at=15) if os.environ["RANK"] == "1" else batch_of  # type: ignore[assignment]
    try:
        run.distill(plain, folder / "lost")
    except TrainingError as error:
        seen["lost"] = str(error)
    write_down(folder, seen)


if __name__ == "__main__":
    main()
