"""Paths and settings that several test folders share."""

import itertools
import sys
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent
# recipes of tests name the tiny network as python:tiny_network:make; what measures, and what makes tables of it, are scripts in folders
sys.path += [str(TESTS / "distill"), *(str(TESTS / name) for name in ("bench", "soak", "arm")), str(TESTS.parent / "models")]

# a busy machine must not fail a property: no test here asserts on time
settings.register_profile("edgedistill", deadline=None)
settings.load_profile("edgedistill")

NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def cache_away_from_home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give each test a cache folder of its own, also in the processes that it starts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "caches" / f"{next(NUMBERS)}"))


@pytest.fixture
def image_copy(tmp_path: Path) -> Path:
    """The first embedded test images of each class, as class folders of PNG files."""
    import cv2

    from edgedistill import recipe
    from edgedistill.distill.data import open_splits

    test = open_splits(recipe.Data(source="embedded")).test.balanced(60)
    for position, frame in enumerate(test):
        folder = tmp_path / "photos" / test.classes[test.labels[position]].replace("/", " or ")
        folder.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / f"{position}.png"), frame)
    return tmp_path / "photos"
