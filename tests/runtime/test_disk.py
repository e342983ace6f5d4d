"""Room on the disk, and files that are whole or not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edgedistill.errors import OutputError
from edgedistill.runtime import disk


def test_there_is_room_or_an_error_that_tells_how_much(tmp_path: Path) -> None:
    disk.require_room(tmp_path)
    with pytest.raises(OutputError, match=r"is full: \d+ MB are free, at least \d+ MB are needed, and 16 MB of them stay free; make room"):
        disk.require_room(tmp_path, 10**18)


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "one.json"
    disk.write_whole(path, b"first")
    disk.write_whole(path, b"second")
    assert path.read_bytes() == b"second"

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        disk.write_whole(path, b"third")
    assert [file.name for file in tmp_path.iterdir()] == ["one.json"]
    assert path.read_bytes() == b"second"


def test_a_folder_that_cannot_be_flushed_is_no_error(tmp_path: Path) -> None:
    disk.flush_folder(tmp_path)
    disk.flush_folder(tmp_path / "none")
