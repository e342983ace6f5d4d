"""Make the small H.264 clip that the RTSP tests send: 30 frames of 160 x 96, the same pattern each a step brighter than before.

    python tests/data/make_h264_clip.py

Needs ffmpeg with libx264. A key frame every 10 frames, no B-frames, as cameras send; every access unit begins with a delimiter.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

CLIP = Path(__file__).parent / "greys.h264"
FRAMES, HEIGHT, WIDTH, FIRST, STEP = 30, 96, 160, 30, 6
PARAMETERS = "keyint=10:min-keyint=10:scenecut=0:bframes=0:repeat-headers=1:aud=1"


def main() -> None:
    """Write the clip."""
    pattern = np.random.default_rng(0).integers(-20, 21, (HEIGHT, WIDTH))
    frames = b"".join((pattern + FIRST + STEP * number).astype(np.uint8).tobytes() for number in range(FRAMES))
    source = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{WIDTH}x{HEIGHT}", "-r", "30", "-i", "-"]
    coder = ["-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "veryfast", "-qp", "28", "-x264-params", PARAMETERS]
    subprocess.run(
        ["ffmpeg", "-loglevel", "error", "-y", *source, *coder, "-bsf:v", "filter_units=remove_types=6", CLIP], input=frames, check=True
    )


if __name__ == "__main__":
    main()
