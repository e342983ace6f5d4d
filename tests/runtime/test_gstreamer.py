"""Pipelines: against GStreamer itself where OpenCV has it, as Debian's python3-opencv does; what is said is tested without it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import pytest

from edgedistill.errors import SourceError
from edgedistill.runtime.frames import Frame
from edgedistill.runtime.gstreamer import gstreamer, with_sink
from edgedistill.runtime.sources import open_source
from edgedistill.runtime.wishes import Wishes

HAS_GSTREAMER = re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()) is not None
needs_gstreamer = pytest.mark.skipif(not HAS_GSTREAMER, reason="this OpenCV has no GStreamer")
#: The system's Python, whose OpenCV has GStreamer where the package python3-opencv is installed.
SYSTEM_PYTHON = Path("/usr/bin/python3")
ROOT = Path(__file__).parents[2]


def test_a_pipeline_ends_where_opencv_takes_frames() -> None:
    assert with_sink("videotestsrc").endswith("videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false")
    assert with_sink("videotestsrc ! appsink name=mine") == "videotestsrc ! appsink name=mine"


@pytest.mark.skipif(HAS_GSTREAMER, reason="this OpenCV has GStreamer")
def test_without_gstreamer_what_to_install_is_told() -> None:
    with pytest.raises(SourceError, match="use Debian's python3-opencv in a virtual environment with --system-site-packages"):
        gstreamer("gst:videotestsrc", Wishes())


def read(pipeline: str, count: int) -> list[Frame]:
    with open_source(f"gst:{pipeline}") as source:
        frames = [source.read(10.0) for _ in range(count)]
    return [frame for frame in frames if frame is not None]


@needs_gstreamer
def test_a_pipeline_gives_frames() -> None:
    frames = read("videotestsrc is-live=true pattern=red ! video/x-raw,width=64,height=48,framerate=20/1", 5)
    assert len(frames) == 5
    assert frames[0].frame_bgr.shape == (48, 64, 3)
    blue, green, red = frames[0].frame_bgr[24, 32]
    assert red > 200 > 60 > max(int(blue), int(green))


@needs_gstreamer
@pytest.mark.parametrize(
    "pipeline",
    [
        "no-such-element device=hunter2",
        "videotestsrc no-such-property=hunter2",
        "rtspsrc location=rtsp://user:hunter2@127.0.0.1:9/x ! decodebin",
    ],
)
def test_a_pipeline_that_does_not_start_is_told_without_its_text_and_holds_nobody(
    pipeline: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgedistill.runtime.sources.FIRST_OPEN_S", 1.0)
    with pytest.raises(SourceError, match=r"(does not start|does not open within 1 s); an element that is not installed") as caught:
        read(pipeline, 1)
    assert "hunter2" not in str(caught.value) + "".join(capfd.readouterr())


#: Fails where there is no OpenCV with GStreamer, or no module to make environments with.
HAS_OPENCV = """
import cv2, ensurepip, re
assert re.search(r"GStreamer:\\s+YES", cv2.getBuildInformation())
"""


@pytest.mark.slow
@pytest.mark.skipif(HAS_GSTREAMER, reason="these tests run in this process already")
def test_these_tests_with_the_systems_opencv(tmp_path: Path) -> None:
    """Run this file by the system's Python, in an environment that sees its OpenCV, as a Raspberry Pi's does."""
    if not SYSTEM_PYTHON.exists() or subprocess.run([SYSTEM_PYTHON, "-c", HAS_OPENCV], capture_output=True).returncode:
        pytest.skip("python3-opencv is not installed: apt-get install python3-opencv python3-venv gstreamer1.0-plugins-base")
    subprocess.run([SYSTEM_PYTHON, "-m", "venv", "--system-site-packages", tmp_path / "venv"], check=True, capture_output=True)
    pip = [tmp_path / "venv/bin/pip", "install", "-q", "--disable-pip-version-check", "-c", ROOT / "constraints.txt"]
    for packages in (["--no-deps", "msgspec"], ["pytest", "pytest-timeout", "hypothesis"]):
        if subprocess.run([*pip, *packages], capture_output=True).returncode:
            pytest.skip("there is no package index to install from")
    command = [tmp_path / "venv/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", "-k", "not tests_with"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    shutil.copy(Path(__file__), tmp_path / "test_gstreamer.py")
    done = subprocess.run(
        [*command, "--noconftest", str(tmp_path / "test_gstreamer.py")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed, 1 skipped" in done.stdout
