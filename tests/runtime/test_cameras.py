"""Cameras and network streams without either: what the kernel lists, an MJPEG server in this process, addresses without secrets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes import mjpeg_server
from hypothesis import given
from hypothesis import strategies as st
from reading import read_all

from edgedistill.errors import SourceError
from edgedistill.runtime import cameras as cameras_module
from edgedistill.runtime.cameras import Camera, cameras, open_camera, open_stream, redact
from edgedistill.runtime.frames import Frame

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="video nodes are Linux's")


def node(root: Path, number: int, *, name: str, index: int = 0) -> None:
    folder = root / f"sys/class/video4linux/video{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "index").write_text(f"{index}\n")


def test_cameras_are_told_from_metadata_and_codec_nodes(tmp_path: Path) -> None:
    node(tmp_path, 0, name="HD Webcam")
    node(tmp_path, 1, name="HD Webcam", index=1)
    node(tmp_path, 10, name="bcm2835-codec-decode")
    node(tmp_path, 13, name="bcm2835-isp")
    node(tmp_path, 2, name="rp1-cfe")
    (tmp_path / "sys/class/video4linux/video99").mkdir()
    assert cameras(tmp_path) == [Camera("/dev/video0", "HD Webcam"), Camera("/dev/video2", "rp1-cfe")]


def test_no_cameras_is_an_empty_list(tmp_path: Path) -> None:
    assert cameras(tmp_path) == []


@LINUX
@pytest.mark.parametrize("text", ["987", "/dev/video987"])
@pytest.mark.parametrize(
    ("there", "message"), [([], "no camera was found.*test://"), ([Camera("/dev/video4", "Cam")], r"found: /dev/video4 \(Cam\)")]
)
def test_a_missing_camera(text: str, there: list[Camera], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras_module, "cameras", lambda: there)
    with pytest.raises(SourceError, match=f"there is no camera /dev/video987; {message}"):
        open_camera(text)


class FakeVideoCapture:
    """Remembers in which order it was set."""

    def __init__(self, *arguments: object, opened: bool = True) -> None:
        self.arguments, self.opened, self.order = arguments, opened, []

    def isOpened(self) -> bool:  # noqa: N802
        return self.opened

    def set(self, key: int, value: float) -> None:
        self.order.append(key)

    def get(self, key: int) -> float:
        return 25.0

    def grab(self) -> bool:
        return False

    def release(self) -> None:
        self.opened = False


@LINUX
def test_a_camera_is_asked_for_mjpeg_before_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(cameras_module.Path, "exists", lambda path: True)
    monkeypatch.setattr(cameras_module.os, "access", lambda path, mode: True)
    monkeypatch.setattr(cameras_module.cv2, "VideoCapture", lambda *arguments: made.append(FakeVideoCapture(*arguments)) or made[0])
    source = open_camera("3")
    cv2 = cameras_module.cv2
    assert made[0].arguments == (3, cv2.CAP_V4L2)
    assert made[0].order[:3] == [cv2.CAP_PROP_FOURCC, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT]
    assert (source.name, source.live, source.fps) == ("/dev/video3", True, 25.0)
    source.close()
    assert not made[0].opened


def test_what_opencv_raises_is_told_without_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: object) -> None:
        raise cameras_module.cv2.error("cannot open rtsp://user:hunter2@host")

    monkeypatch.setattr(cameras_module.cv2, "VideoCapture", failing)
    with pytest.raises(SourceError, match=r"rtsp://host does not open: OpenCV failed") as caught:
        open_stream("rtsp://user:hunter2@host")
    assert "hunter2" not in str(caught.value)


@LINUX
@pytest.mark.parametrize(("allowed", "message"), [(False, "usermod -aG video"), (True, "another program may be using it")])
def test_a_camera_that_does_not_open(allowed: bool, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras_module.Path, "exists", lambda path: True)
    monkeypatch.setattr(cameras_module.os, "access", lambda path, mode: allowed)
    monkeypatch.setattr(cameras_module.cv2, "VideoCapture", lambda *arguments: FakeVideoCapture(opened=False))
    with pytest.raises(SourceError, match=message):
        open_camera("/dev/video3")


def test_a_network_camera_is_live_and_its_end_is_an_error() -> None:
    greys = [30, 90, 150, 210]
    with mjpeg_server([np.full((48, 64, 3), grey, np.uint8) for grey in greys]) as address, open_stream(address) as source:
        assert source.live
        frames: list[Frame] = []
        with pytest.raises(SourceError, match="stopped delivering"):
            read_all(source, frames)
    assert frames
    assert all(min(abs(frame.frame_bgr.mean() - grey) for grey in greys) < 4 for frame in frames)


def test_a_stream_that_changes_its_size_does_not_break() -> None:
    frames = [np.full((48, 64, 3), 90, np.uint8)] * 3 + [np.full((96, 128, 3), 90, np.uint8)] * 3
    with mjpeg_server(frames) as address, open_stream(address) as source:
        found: list[Frame] = []
        with pytest.raises(SourceError):
            read_all(source, found)
    assert found
    assert {frame.frame_bgr.shape for frame in found} <= {(48, 64, 3), (96, 128, 3)}


def test_a_stream_that_needs_a_password_takes_it_and_never_tells_it() -> None:
    with mjpeg_server([np.zeros((48, 64, 3), np.uint8)] * 5, password="hunter2") as address:
        with open_stream(address.replace("://", "://user:hunter2@")) as source:
            assert source.read(10) is not None
            assert "hunter2" not in source.name
        with pytest.raises(SourceError, match="does not open"):
            open_stream(address)


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_nothing_that_is_printed_holds_the_password(scheme: str) -> None:
    code = (
        "import sys\nfrom edgedistill.runtime.sources import open_source\n"
        f"try:\n    open_source('{scheme}://user:hunter2@127.0.0.1:9/x?token=swordfish')\n"
        "except Exception as error:\n    print(error, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "127.0.0.1:9/x?… does not open" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout
    assert "swordfish" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtsp://host/stream", "rtsp://host/stream"),
        ("rtsp://user:word@host:554/stream", "rtsp://host:554/stream"),
        ("rtsp://user:w@rd@host/stream", "rtsp://host/stream"),
        ("rtsp://user:w/rd@host/stream", "rtsp://host/stream"),
        ("rtsp://user:w?rd@host/stream?a=b", "rtsp://host/stream?…"),
        ("http://host/snap?user=me&password=word", "http://host/snap?…"),
        ("http://host/x#word", "http://host/x"),
        ("test://pattern?fps=3", "test://pattern?fps=3"),
        ("clip@home.mp4", "clip@home.mp4"),
        ("0", "0"),
    ],
)
def test_redacting(text: str, expected: str) -> None:
    assert redact(text) == expected


@given(
    st.text(st.characters(exclude_characters="\n"), min_size=8, max_size=20).filter(
        lambda word: "host" not in word and "stream" not in word
    )
)
def test_no_password_survives_redacting(word: str) -> None:
    told = redact(f"rtsp://user:{word}@host/stream")
    assert told in ("rtsp://host/stream", "rtsp://host/stream?…")
