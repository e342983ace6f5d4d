"""What travels with a student's weights, and students kept on the way: an early-stopped teacher can teach better than a
finished one (Cho and Hariharan 2019).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edgedistill.distill import weights
from edgedistill.distill.networks import Network
from edgedistill.distill.widths import CARD_KEY
from edgedistill.recipe import Recipe, digest


def card_of(student: Network, recipe: Recipe) -> dict[str, Any]:
    """Return what has to travel with the student's weights."""
    return {
        "format": 1,
        "name": recipe.name,
        "model": recipe.student.model,
        "classes": list(student.classes or ()),
        "input_size": student.input_size,
        "mean": list(student.mean),
        "std": list(student.std),
        "resize": recipe.student.resize,
        "interpolation": recipe.student.interpolation,
        "licence": student.licence,
        "recipe_sha256": digest(recipe),
        **({CARD_KEY: msgspec.to_builtins(student.pruned)} if student.pruned is not None else {}),
    }


def keep(student: Network, recipe: Recipe, out: Path, *, epoch: int) -> None:
    """Write out/student-epoch-N.safetensors, which can be a teacher's weights, where the recipe asks for it; epochs count from 1."""
    if epoch in recipe.train.snapshots:
        weights.save(student.module, out / f"student-epoch-{epoch}.safetensors", card_of(student, recipe))
