"""Paths and settings that several test folders share."""

import itertools
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# recipes of tests name the tiny network as python:tiny_network:make
sys.path.append(str(Path(__file__).parent / "distill"))

# a busy machine must not fail a property: no test here asserts on time
settings.register_profile("edgedistill", deadline=None)
settings.load_profile("edgedistill")

NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def cache_away_from_home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give each test a cache folder of its own, also in the processes that it starts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "caches" / f"{next(NUMBERS)}"))
