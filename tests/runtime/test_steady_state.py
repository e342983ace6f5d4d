"""A loop that runs for months: once it is warm, a frame takes no memory that numpy or Python would have to find and clear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_bundle
from memory import traced_growth, traced_peak

from edgedistill import bundle
from edgedistill.runtime.camera import Classifier
from edgedistill.runtime.engines import open_engine
from edgedistill.runtime.frames import Frame

SHIPPED = Path(__file__).parents[2] / "export"
#: The result itself: a tuple or two, a dict of five floats, and the heads of arrays that look at memory which is there.
RESULT_BYTES = 4096


def shipped_files() -> list[tuple[Path, str]]:
    folders = sorted(path.parent for path in SHIPPED.glob("*/manifest.json"))
    return [(folder, model.file) for folder in folders for model in bundle.load(folder).manifest.files]


def check(folder: Path, file: str, *, top_k: int, times: int) -> None:
    loaded = bundle.load(folder)
    classify = Classifier(loaded, open_engine(loaded, file, threads=1), top_k=top_k, watched=range(len(loaded.manifest.labels)))
    frame = Frame(0, np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8), 0.0, 0.0, 0.0)
    assert traced_peak(lambda: classify(frame)) < RESULT_BYTES
    assert traced_growth(lambda: classify(frame), times=times) < 4 * times + 4096


@pytest.mark.parametrize("file", tiny_bundle.FILES)
@pytest.mark.parametrize("top_k", [1, 3])
def test_a_frame_takes_no_memory(bundle_path: Path, file: str, top_k: int) -> None:
    check(bundle_path, file, top_k=top_k, times=1000)


@pytest.mark.parametrize(("folder", "file"), [pytest.param(*pair, id=pair[1]) for pair in shipped_files()])
def test_a_frame_takes_no_memory_in_a_shipped_bundle(folder: Path, file: str) -> None:
    check(folder, file, top_k=3, times=50)


def test_an_array_would_be_seen() -> None:
    assert traced_peak(lambda: np.zeros(1000, np.float32)) >= 4000
    kept = []
    assert traced_growth(lambda: kept.append(bytes(100)), times=100) >= 10_000
