"""Small real recipes: a tiny network on a few embedded photographs, trained in about a second."""

from pathlib import Path

import pytest

from edgedistill import recipe
from edgedistill.recipe import Recipe

TINY = """
name = "tiny"
[data]
source = "embedded"
train_limit = 160
test_limit = 100
augment = { flip = true, shift = 0.1, noise = 0.02 }
[student]
model = "python:tiny_network:make"
args = { dropout = 0.2 }
input_size = 16
[train]
epochs = 2
batch_size = 16
lr = 0.01
threads = 1
accelerator = "cpu"
"""


@pytest.fixture
def tiny_recipe() -> Recipe:
    """A plain training of a tiny network."""
    return recipe.decode(TINY)


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
