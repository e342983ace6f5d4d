"""What a loop measures of itself, the same for every loop and in any environment: numpy and the standard library only.

`LOOP_STARTED_NS` is when the process was started, `LOOP_RESULT` the file for what was measured, both by whoever started it.
"""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path

import numpy as np

#: A frame's time of sending is written into it: 32 black or white squares in its first rows, one a bit of its milliseconds.
SQUARE, BITS = 16, 32


def stamp(frame_bgr: np.ndarray, at_ns: int) -> None:
    """Write a time of the monotonic clock into a frame of at least 512 x 16 pixels."""
    bits = (at_ns // 1_000_000 >> np.arange(BITS)) & 1
    frame_bgr[:SQUARE, : SQUARE * BITS] = np.repeat(bits * 255, SQUARE).astype(np.uint8)[np.newaxis, :, np.newaxis]


def age_ms(frame_bgr: np.ndarray, now_ns: int) -> float:
    """Return how long ago a stamped frame was sent, to the millisecond."""
    centres = frame_bgr[SQUARE // 2, SQUARE // 2 : SQUARE * BITS : SQUARE, 1]
    sent_ms = int(((centres > 127) << np.arange(BITS)).sum())
    return float((now_ns // 1_000_000 - sent_ms) & (2**BITS - 1))


class Measured:
    """Counts results; the first `warmup` ones only tell when the first was there.

    Args:
        stamped: the frames carry their time of sending.
        seconds: `over` is true so long after the warm-up.
    """

    def __init__(self, *, stamped: bool, seconds: float = float("inf"), warmup: int = 10) -> None:
        self._started_ns = int(os.environ["LOOP_STARTED_NS"])
        self._stamped, self._seconds, self._warmup = stamped, seconds, warmup
        self._count = 0
        self._first_s = self._began_ns = self._last_ns = 0.0
        self._began_cpu_s = self._cpu_s = 0.0
        self._inference_s = 0.0
        self._ages_ms: list[float] = []

    def result(self, frame_bgr: np.ndarray, *, inference_ms: float = 0.0) -> None:
        """Count a result, now; `inference_ms` is what the interpreter alone took, where the loop tells."""
        now_ns = time.monotonic_ns()
        self._count += 1
        if self._count == 1:
            self._first_s = (now_ns - self._started_ns) / 1e9
        if self._count == self._warmup:
            self._began_ns, self._began_cpu_s = now_ns, _cpu_s()
        elif self._count > self._warmup:
            self._last_ns, self._cpu_s = now_ns, _cpu_s()
            self._inference_s += inference_ms / 1e3
            if self._stamped:
                self._ages_ms.append(age_ms(frame_bgr, now_ns))

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return self._count > self._warmup and (time.monotonic_ns() - self._began_ns) / 1e9 >= self._seconds

    def tell(self, *, version: str) -> None:
        """Write what was measured; a loop that came to fewer than two results after the warm-up is an error."""
        counted, span_s = self._count - self._warmup, (self._last_ns - self._began_ns) / 1e9
        if counted < 2:
            raise SystemExit(f"only {self._count} results")
        cpu_s = self._cpu_s - self._began_cpu_s
        told = {
            "version": version,
            "results": counted,
            "fps": counted / span_s,
            "first_result_s": self._first_s,
            "age_p50_ms": float(np.percentile(self._ages_ms, 50)) if self._ages_ms else None,
            "age_p99_ms": float(np.percentile(self._ages_ms, 99)) if self._ages_ms else None,
            "cpu_share": cpu_s / span_s,
            "cpu_ms_a_result": cpu_s * 1e3 / counted,
            "cpu_share_beside_inference": (cpu_s - self._inference_s) / span_s if self._inference_s else None,
            "peak_rss_mb": _peak_rss_mb(),
        }
        Path(os.environ["LOOP_RESULT"]).write_text(json.dumps(told))


def _cpu_s() -> float:
    """Return the processor time of all threads of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _peak_rss_mb() -> float:
    """Return the peak memory of this program alone: `ru_maxrss` would count that of the process it was started from."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
