"""The tiny bundle, shared by all tests of the runtime, and a copy that a test may break."""

import shutil
from pathlib import Path

import pytest
import tiny_bundle


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the tiny bundle; do not change it."""
    return tiny_bundle.make(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture
def own_bundle(bundle_path: Path, tmp_path: Path) -> Path:
    """Return the folder of a copy of the tiny bundle, for this test alone."""
    return Path(shutil.copytree(bundle_path, tmp_path / "tiny"))
