"""Raw frames on standard input, over real pipes; several sources and the orientation of frames, by the whole command."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_bundle

from edgedistill.errors import SourceError
from edgedistill.runtime.ending import CaptureSource
from edgedistill.runtime.frames import Traits
from edgedistill.runtime.raw_frames import RawFrames, raw_frames
from edgedistill.runtime.results import read_results
from edgedistill.runtime.wishes import Wishes

SHAPE = (48, 64, 3)


def camera(bundle: Path, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    call = [sys.executable, "-m", "edgedistill.runtime", "camera", str(bundle), "--output", "jsonl", *arguments]
    return subprocess.run(call, input=given, capture_output=True, timeout=60, check=False)


def labels(done: subprocess.CompletedProcess[bytes], source: int = 0) -> list[str]:
    rows = read_results(io.BytesIO(done.stdout), finished=True)
    return [row.top_k[0].label for row in rows if row.source.index == source]


def test_every_frame_of_a_pipe_is_classified_and_a_torn_one_is_told(bundle_path: Path) -> None:
    frames = b"".join(cv2.resize(tiny_bundle.card(label), SHAPE[1::-1]).tobytes() for label in tiny_bundle.LABELS)
    done = camera(bundle_path, "--source", "-", "--width", "64", "--height", "48", given=frames + b"\0" * 100)
    assert done.returncode == 0, done.stderr
    assert labels(done) == tiny_bundle.LABELS
    assert b"the last frame is incomplete, 100 of 9216 bytes" in done.stderr
    assert b"1 could not be read" in done.stderr


def test_an_empty_pipe_is_an_error(bundle_path: Path) -> None:
    done = camera(bundle_path, "--source", "-", "--width", "64", "--height", "48")
    assert done.returncode == 4
    assert b"standard input has no frame" in done.stderr


def test_a_size_is_needed() -> None:
    with pytest.raises(SourceError, match="add --width and --height"):
        raw_frames("-", Wishes(width=5))


def test_a_silent_pipe_does_not_hold_the_end() -> None:
    ours, theirs = os.pipe()
    with CaptureSource(RawFrames(ours, SHAPE[:2], Traits("standard input"))) as source:
        assert source.read(0.05) is None
    assert not source.stuck
    os.close(theirs)
    os.close(ours)


def test_two_sources_at_once(bundle_path: Path, tmp_path: Path) -> None:
    for label in ("red", "blue"):
        folder = tmp_path / label
        folder.mkdir()
        for number in range(4):
            cv2.imwrite(str(folder / f"{number}.png"), tiny_bundle.card(label))
    done = camera(bundle_path, "--source", str(tmp_path / "red"), "--source", str(tmp_path / "blue"))
    assert labels(done, 0) == ["red"] * 4
    assert labels(done, 1) == ["blue"] * 4


def test_a_region_of_interest_by_the_command(bundle_path: Path, tmp_path: Path) -> None:
    halves = np.hstack([cv2.resize(tiny_bundle.card(label), (64, 64)) for label in ("red", "blue")])
    cv2.imwrite(str(tmp_path / "a.png"), halves)
    for roi, label in (("0,0,64,64", "red"), ("0.5,0.0,0.5,1.0", "blue")):
        assert labels(camera(bundle_path, "--source", str(tmp_path), "--roi", roi)) == [label]
    assert labels(camera(bundle_path, "--source", str(tmp_path), "--roi", "0,0,64,64", "--flip", "horizontal", "--rotate", "180")) == [
        "red"
    ]
