"""`python tests/soak [NAME…]`: hours of wear and every fault in minutes; results like those of the benchmarks, in runs/soak/results.json.

A new test is a function in a module beside this one and one line in `ENTRIES`.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "bench"), str(HERE.parent)]

from attacks import hostile_cameras, viewers  # noqa: E402
from endings import killed_recordings, terminated  # noqa: E402
from entry import ROOT  # noqa: E402
from outages import outage, reconnects, rtsp_outage  # noqa: E402
from run import main  # noqa: E402
from wear import frame_age, many_frames, slow_outputs  # noqa: E402

ENTRIES = {
    "outage": outage,
    "rtsp_outage": rtsp_outage,
    "reconnects": reconnects,
    "many_frames": many_frames,
    "frame_age": frame_age,
    "slow_outputs": slow_outputs,
    "hostile_cameras": hostile_cameras,
    "viewers": viewers,
    "terminated": terminated,
    "killed_recordings": killed_recordings,
}

if __name__ == "__main__":
    raise SystemExit(main(entries=ENTRIES, out=ROOT / "runs" / "soak" / "results.json"))
