"""Cameras and network streams without either: what the kernel lists, an MJPEG server in this process, addresses without secrets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes import mjpeg_server
from reading import read_all

from edgedistill.errors import SourceError
from edgedistill.runtime import cameras as cameras_module
from edgedistill.runtime.cameras import Camera, camera, cameras, device_of, negotiate, open_camera, open_stream, usb_camera
from edgedistill.runtime.ending import CaptureSource
from edgedistill.runtime.frames import Frame
from edgedistill.runtime.wishes import Wishes

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


def usb_node(root: Path, number: int, *, name: str, serial: str | None) -> None:
    """Make a video node whose interface lies in a USB device's folder, as in sysfs."""
    node(root, number, name=name)
    device = root / f"sys/devices/usb1/1-{number}"
    (device / f"1-{number}:1.0").mkdir(parents=True)
    if serial is not None:
        (device / "serial").write_text(f"{serial}\n")
    (root / f"sys/class/video4linux/video{number}/device").symlink_to(device / f"1-{number}:1.0")


def test_usb_cameras_have_their_serial_number(tmp_path: Path) -> None:
    usb_node(tmp_path, 0, name="C920", serial="A1B2C3")
    usb_node(tmp_path, 2, name="NoName", serial=None)
    assert cameras(tmp_path) == [Camera("/dev/video0", "C920", "A1B2C3"), Camera("/dev/video2", "NoName", None)]


THREE = [Camera("/dev/video0", "A", "AB12"), Camera("/dev/video2", "B", "AB34"), Camera("/dev/video4", "C", None)]


@pytest.mark.parametrize(("serial", "device"), [("AB12", "/dev/video0"), ("34", "/dev/video2")])
def test_a_camera_by_its_serial_number_or_a_part_of_it(serial: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras_module, "cameras", lambda: THREE)
    assert device_of(serial) == device


@pytest.mark.parametrize(
    ("serial", "message"),
    [
        ("AB", "2 cameras have the serial number AB"),
        ("XY", r"there is no camera with the serial number XY; found: /dev/video0 \(A\) usb:AB12"),
    ],
)
def test_a_serial_number_that_none_or_several_have(serial: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras_module, "cameras", lambda: THREE)
    with pytest.raises(SourceError, match=message):
        usb_camera(f"usb:{serial}", Wishes())()


def test_a_usb_camera_is_looked_for_anew_at_every_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(cameras_module, "open_camera", lambda device, wishes, *, name: opened.append(f"{device} {name}"))
    opening = usb_camera("usb:AB12", Wishes())
    for number in (0, 6):
        monkeypatch.setattr(cameras_module, "cameras", lambda number=number: [Camera(f"/dev/video{number}", "A", "AB12")])
        opening()
    assert opened == ["/dev/video0 usb:AB12", "/dev/video6 usb:AB12"]


@pytest.mark.parametrize(
    ("wishes", "answer", "expected"),
    [
        (Wishes(), {"WIDTH": 640, "HEIGHT": 480, "FPS": 30, "FOURCC": "MJPG"}, ""),
        (Wishes(), {"WIDTH": 640, "HEIGHT": 480, "FPS": 15, "FOURCC": "YUYV"}, "asked for 640x480 MJPG 30 fps, got 640x480 YUYV 15 fps"),
        (
            Wishes(width=1280, height=720, fps=60),
            {"WIDTH": 800, "HEIGHT": 600, "FPS": 60, "FOURCC": "MJPG"},
            "asked for 1280x720 MJPG 60 fps, got 800x600 MJPG 60 fps",
        ),
    ],
)
def test_what_a_camera_gives_is_compared_with_what_was_asked(wishes: Wishes, answer: dict[str, object], expected: str) -> None:
    import cv2

    values = {getattr(cv2, f"CAP_PROP_{'FRAME_' * (name in ('WIDTH', 'HEIGHT'))}{name}"): value for name, value in answer.items()}

    class Answering(FakeVideoCapture):
        def get(self, key: int) -> float:
            value = values[key]
            return float(cv2.VideoWriter.fourcc(*value)) if isinstance(value, str) else float(value)  # type: ignore[arg-type]

    assert negotiate(Answering(), wishes) == expected  # type: ignore[arg-type]


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
        camera(text, Wishes())()


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
    source = CaptureSource(camera("3", Wishes())())
    cv2 = cameras_module.cv2
    assert made[0].arguments == (3, cv2.CAP_V4L2)
    assert made[0].order[:3] == [cv2.CAP_PROP_FOURCC, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT]
    assert (source.name, source.live, source.fps) == ("/dev/video3", True, 25.0)
    source.close()
    assert not made[0].opened


def test_what_opencv_raises_is_told_without_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: object) -> None:
        raise cameras_module.cv2.error("cannot open http://user:hunter2@host")

    monkeypatch.setattr(cameras_module.cv2, "VideoCapture", failing)
    with pytest.raises(SourceError, match=r"http://host does not open: OpenCV failed") as caught:
        open_stream("http://user:hunter2@host")
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
    with mjpeg_server([np.full((48, 64, 3), grey, np.uint8) for grey in greys]) as address, CaptureSource(open_stream(address)) as source:
        assert source.live
        frames: list[Frame] = []
        with pytest.raises(SourceError, match="stopped delivering"):
            read_all(source, frames)
    assert frames
    assert all(min(abs(frame.frame_bgr.mean() - grey) for grey in greys) < 4 for frame in frames)


def test_a_stream_that_changes_its_size_does_not_break() -> None:
    frames = [np.full((48, 64, 3), 90, np.uint8)] * 3 + [np.full((96, 128, 3), 90, np.uint8)] * 3
    with mjpeg_server(frames) as address, CaptureSource(open_stream(address)) as source:
        found: list[Frame] = []
        with pytest.raises(SourceError):
            read_all(source, found)
    assert found
    assert {frame.frame_bgr.shape for frame in found} <= {(48, 64, 3), (96, 128, 3)}


def test_a_stream_that_needs_a_password_takes_it_and_never_tells_it() -> None:
    with mjpeg_server([np.zeros((48, 64, 3), np.uint8)] * 5, password="hunter2") as address:
        with CaptureSource(open_stream(address.replace("://", "://user:hunter2@"))) as source:
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
    assert "127.0.0.1:9/x?… does not " in done.stderr
    assert "hunter2" not in done.stderr + done.stdout
    assert "swordfish" not in done.stderr + done.stdout
