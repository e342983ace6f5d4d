"""Small real recipes: a tiny network on a few embedded photographs, trained in about a second."""

from pathlib import Path

import pytest
import tiny_network

from edgedistill import recipe
from edgedistill.recipe import Recipe


@pytest.fixture
def tiny_recipe() -> Recipe:
    """A plain training of a tiny network."""
    augment = "data.augment={flip = true, shift = 0.1, noise = 0.02}"
    return recipe.decode(tiny_network.RECIPE, overrides=[augment, "student.args={dropout = 0.2}", "train.epochs=2"])


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Class folders `bag` and `shoe` with 10 images each: bright noise and dark noise."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    for name, level in (("bag", 60), ("shoe", 200)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            image = np.clip(rng.normal(level, 20, (20, 24, 3)), 0, 255).astype(np.uint8)
            assert cv2.imwrite(str(tmp_path / "photos" / name / f"{i}.png"), image)
    return tmp_path / "photos"
