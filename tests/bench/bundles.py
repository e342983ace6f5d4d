"""The bundles that the benchmarks run: the shipped one, and a larger one with random weights built here once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from entry import OUT, ROOT

from edgedistill import bundle, recipe
from edgedistill.errors import BundleError

if TYPE_CHECKING:
    from edgedistill.convert.export import ExportJob

LARGE_NAME = "mobilenetv4-conv-small-224-random"
LARGE_MODEL = "mobilenetv4_conv_small"
CLASSES = 10
SIDE = 224
FRAMES, CALIBRATION = 256, 32


def small_bundle() -> Path:
    """Return the folder of the first shipped bundle, or of the large one while none is shipped."""
    return next(iter(shipped_bundles()), None) or large_bundle()


def shipped_bundles() -> Iterator[Path]:
    """Yield the folders of the bundles in export/, by name."""
    yield from sorted(manifest.parent for manifest in (ROOT / "export").glob(f"*/{bundle.MANIFEST_NAME}"))


def large_bundle() -> Path:
    """Return the folder of a bundle with MobileNetV4-conv-small at 224x224 as TFLite, fp32 and int8; build it on first use.

    Its weights are random, so it says nothing about accuracy; latency does not depend on their values.
    """
    folder = OUT / LARGE_NAME
    try:
        bundle.load(folder)
    except BundleError:
        print(f"building {folder.relative_to(ROOT)}, once", file=sys.stderr, flush=True)
        _build(folder)
    return folder


def _build(folder: Path) -> None:
    """Export the network with open budgets: random weights give answers that no parity check could mean anything on."""
    import timm
    import torch

    from edgedistill.convert.export import export_bundle

    torch.manual_seed(0)
    student = timm.create_model(LARGE_MODEL, num_classes=CLASSES).eval()
    export_bundle(student, _job(), folder, progress=lambda text: print(f"  {text}", file=sys.stderr, flush=True))


def _job() -> ExportJob:
    from edgedistill.convert.export import ExportJob

    frames = list(np.random.default_rng(0).integers(0, 256, (FRAMES, SIDE, SIDE, 3), np.uint8))
    return ExportJob(
        name=LARGE_NAME,
        labels=[f"class {number}" for number in range(CLASSES)],
        mean=recipe.HALF_MEAN,
        std=recipe.HALF_STD,
        preprocess=bundle.Preprocess(height=SIDE, width=SIDE, resize="crop"),  # what a recipe gives unless it says otherwise
        calibration_frames_bgr=frames[:CALIBRATION],
        test_frames_bgr=frames,
        test_labels=np.zeros(FRAMES, np.int64),
        settings=recipe.Export(formats=["tflite"], calibration=CALIBRATION, parity_images=FRAMES, min_agreement=0.0, max_int8_drop=1.0),
        provenance=bundle.Provenance(
            student=f"timm:{LARGE_MODEL}, random weights",
            student_sha256="",
            teacher=None,
            dataset="random pixels",
            dataset_sha256="",
            dataset_licence="none",
            recipe_sha256="",
            created="",
            versions={},
        ),
    )
