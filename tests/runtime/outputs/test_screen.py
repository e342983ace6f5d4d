"""The window."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgedistill.errors import MissingExtraError, OutputError
from edgedistill.runtime import outputs
from edgedistill.runtime.outputs import screen


def test_no_screen_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(OutputError, match=r"no screen.*--save"), outputs.window():
        pass


def test_an_opencv_without_windows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str, flags: int) -> None:
        raise cv2.error("The function is not implemented")

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", without, raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'edgedistill\[gui\]'"), outputs.window():
        pass


@pytest.mark.parametrize(("key", "goes_on"), [(-1, True), (ord("x"), True), (ord("q"), False), (27, False)])
def test_q_and_escape_end_the_run(monkeypatch: pytest.MonkeyPatch, key: int, goes_on: bool) -> None:
    shown = []
    monkeypatch.setattr(cv2, "imshow", lambda name, image: shown.append(image), raising=False)
    monkeypatch.setattr(cv2, "waitKey", lambda delay: key, raising=False)
    image = np.zeros((4, 4, 3), np.uint8)
    assert screen.goes_on() is goes_on
    assert not shown
    assert outputs.show(image) is goes_on
    assert shown[0] is image
