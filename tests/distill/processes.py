"""One of several processes that train together, started by torchrun: a recipe's path, a folder, and a folder for what it saw.

Beside the training it writes down the positions that it was given in each epoch, to seen/RANK.json.
"""

import json
import os
import sys
from pathlib import Path

from edgedistill import recipe
from edgedistill.distill import loop, run


def main() -> None:
    """Train, and write down what this process saw."""
    recipe_file, out, seen = (Path(argument) for argument in sys.argv[1:4])
    positions: dict[int, list[int]] = {}
    batch_of = loop.batch_of

    def watched(job, piece, epoch):  # type: ignore[no-untyped-def]
        positions.setdefault(epoch, []).extend(piece.positions.tolist())
        return batch_of(job, piece, epoch)

    loop.batch_of = watched
    stop_at, resume = int(os.environ.get("STOP_AT", "-1")), "RESUME" in os.environ

    def stop(text: str, done: int, total: int) -> None:
        if text.startswith("training") and done == stop_at:
            os._exit(9)

    run.distill(recipe.load(recipe_file), out, resume=resume, progress=stop)
    (seen / f"{os.environ['RANK']}.json").write_text(json.dumps(positions))


if __name__ == "__main__":
    main()
