"""Train the demo's plain and distilled student with several seeds, same budget, and keep the accuracies.

python models/paired_seeds.py runs/seeds --seeds 3
python models/publish.py seeds fashion-mnist-mobilenetv3 runs/seeds
"""

import argparse
from pathlib import Path

import msgspec

from edgedistill import recipe
from edgedistill.cli.output import progress_bars
from edgedistill.distill import run

RECIPE = Path(__file__).parents[1] / "edgedistill" / "demo" / "student.toml"


def main() -> None:
    """Train each pair that is not finished yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    shipped = recipe.load(RECIPE)
    with progress_bars() as tell:
        for seed in range(arguments.seeds):
            taught = msgspec.structs.replace(shipped, seed=seed)
            for kind, wanted in (("plain", taught.plain()), ("distilled", taught)):
                folder = arguments.out / f"{kind}-{seed}"
                run.distill(
                    wanted, folder, resume=folder.exists(), progress=lambda text, d, t, name=folder.name: tell(f"{name}: {text}", d, t)
                )


if __name__ == "__main__":
    main()
