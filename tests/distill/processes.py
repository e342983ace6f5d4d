"""One of several processes that train together, started by torchrun with a folder of recipes.

It trains plain.toml into plain/, dropout.toml into whole/, the same into cut/ with an interruption and a resume, taught.toml into
taught/ and hinted.toml into hinted/; what it saw itself goes to seen-RANK.json: positions by epoch, and which chunks of the view
cache it filled.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from edgedistill import recipe
from edgedistill.distill import loop, run
from edgedistill.distill.cache.rows import Rows

STOP_AT = 34


class Watched:
    """Stands in front of `loop.batch_of`: notes positions, and interrupts at a certain call."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.positions: dict[int, list[int]] = {}
        self.left, self.batch_of = stop_at, loop.batch_of

    def __call__(self, job: Any, piece: Any, epoch: int) -> Any:
        self.positions.setdefault(epoch, []).extend(piece.positions.tolist())
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self.batch_of(job, piece, epoch)


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
    loop.batch_of = Watched(STOP_AT)  # type: ignore[assignment]
    try:
        run.distill(dropout, folder / "cut")
    except KeyboardInterrupt:
        loop.batch_of = batch_of
        run.distill(dropout, folder / "cut", resume=True)
    Rows.write = noted  # type: ignore[method-assign]
    run.distill(taught, folder / "taught")
    run.distill(hinted, folder / "hinted")
    seen = {"positions": watched.positions, "chunks": chunks}
    (folder / f"seen-{os.environ['RANK']}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
