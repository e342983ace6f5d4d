"""The text of `--source`: which kind it is, and what a wrong one is told."""

from __future__ import annotations

import contextlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.errors import SourceError
from edgedistill.runtime import sources
from edgedistill.runtime.cameras import Camera
from edgedistill.runtime.sources import SOURCES, kind_of, open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with one image and one file that is none."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "clip.avi").write_bytes(b"RIFF")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("0", "camera"),
        ("12", "camera"),
        ("/dev/video3", "camera"),
        ("http://host/stream", "http"),
        ("https://host/stream", "https"),
        ("rtsp://user:word@host/stream", "rtsp"),
        ("RTSP://host/stream", "rtsp"),
        ("test://", "test"),
        ("test://pattern?fps=5", "test"),
        ("missing.jpg", "images"),
        ("photos/*.png", "images"),
        ("photos/**/*", "images"),
    ],
)
def test_kinds_told_by_their_text(text: str, kind: str) -> None:
    assert kind_of(text) == kind
    assert kind in SOURCES


@pytest.mark.parametrize(("name", "kind"), [("", "images"), ("a.png", "images"), ("clip.avi", "video"), ("*.png", "images")])
def test_kinds_told_by_what_is_there(folder: Path, name: str, kind: str) -> None:
    assert kind_of(f"{folder}/{name}") == kind


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip.mp4", "'clip.mp4' does not exist.*cameras found: none"),
        ("", "'' does not exist"),
        ("ftp://host/clip.mp4", "no source of the kind ftp://"),
        ("rstp://user:secret@host/x", "Did you mean 'rtsp'"),
        ("no\0such", "cannot be read|does not exist"),
    ],
)
def test_a_wrong_source_is_told_what_there_is(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "cameras", list)
    with pytest.raises(SourceError, match=message) as caught:
        open_source(text)
    assert "secret" not in str(caught.value)
    assert caught.value.exit_code == 4


def test_cameras_that_were_found_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "cameras", lambda: [Camera("/dev/video0", "A"), Camera("/dev/video2", "B")])
    with pytest.raises(SourceError, match="cameras found: /dev/video0, /dev/video2"):
        open_source("camera")


@given(st.text(max_size=30))
def test_any_text_is_a_kind_or_a_clear_error(text: str) -> None:
    with contextlib.suppress(SourceError):
        assert kind_of(text) in SOURCES
