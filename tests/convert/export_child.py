"""An export in a process of its own: python export_child.py STUDENT OUT FORMATS [WAIT]; it stands still at a step that starts with WAIT."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path


def main(student_path: str, out: str, formats: str, wait: str = "") -> None:
    """Export the student of the blobs' task whose weights lie at a path."""
    import blobs
    import safetensors.torch

    from edgedistill.convert.export import export_bundle
    from edgedistill.recipe import Export

    def progress(message: str) -> None:
        print(message, flush=True)
        if wait and message.startswith(wait):
            print("standing still", flush=True)
            time.sleep(120)

    student = blobs.Student()
    safetensors.torch.load_model(student, student_path)
    settings = Export(formats=tuple(formats.split(",")), int8="static_int8", equalize=False, max_int8_drop=1.0)
    export_bundle(student.eval(), blobs.job(settings=settings), Path(out), progress=progress)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    main(*sys.argv[1:])
