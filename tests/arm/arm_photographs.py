"""Runs on both sides: logits of the embedded photographs by every file of a bundle. `arm_photographs.py BUNDLE PHOTOGRAPHS COUNT OUT`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from edgedistill import bundle
from edgedistill.runtime import predict_logits


def main() -> None:
    """Write OUT, an .npz with (COUNT, classes) logits by the file's name."""
    folder, photographs, count, out = sys.argv[1:]
    loaded = bundle.load(Path(folder))
    with np.load(photographs) as arrays:
        frames_bgr = np.repeat(arrays["test_images"][: int(count), :, :, None], 3, axis=3)
    np.savez(out, **{model.file: predict_logits(loaded, frames_bgr, file=model.file, threads=1) for model in loaded.manifest.files})


if __name__ == "__main__":
    main()
