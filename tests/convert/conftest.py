"""A trained student and its graph, made once: what most tests of converting start from."""

from __future__ import annotations

import blobs
import pytest
from torch import nn

from edgedistill.convert.graph import Graph, prepare
from edgedistill.recipe import HALF_MEAN, HALF_STD


@pytest.fixture(scope="session")
def student() -> nn.Module:
    """Return a student that knows its task; do not change it."""
    return blobs.trained()


@pytest.fixture(scope="session")
def graph(student: nn.Module) -> Graph:
    """Return the student's graph; do not change it."""
    return prepare(student, blobs.SPEC, mean=HALF_MEAN, std=HALF_STD, classes=len(blobs.LABELS))
