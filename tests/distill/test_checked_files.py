"""Files are decoded at the first opening, and again only when they change."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedistill.distill import checked_files
from edgedistill.distill.checked_files import check
from edgedistill.distill.images import FileList, ImageSet, decode_file, digest_of


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded."""
    names: list[str] = []
    monkeypatch.setattr(checked_files, "decode_file", lambda path: names.append(path.name) or decode_file(path))
    return names


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for number, name in enumerate(("a.png", "deep/b.png", "c.png")):
        assert cv2.imwrite(str(tmp_path / "photos" / name), np.full((6, 7, 3), number, np.uint8))
    (tmp_path / "photos" / "d.jpg").write_bytes(b"no image")
    return [tmp_path / "photos" / name for name in ("a.png", "deep/b.png", "c.png", "d.jpg")]


def test_files_are_decoded_once(tmp_path: Path, paths: list[Path], decoded: list[str]) -> None:
    first = check(paths, tmp_path / "photos")
    assert sorted(decoded) == ["a.png", "b.png", "c.png", "d.jpg"]
    assert [digest is None for digest in first] == [False, False, False, True]
    assert first[2] == digest_of(decode_file(paths[2]))
    decoded.clear()
    assert check(paths, tmp_path / "photos") == first
    assert decoded == []


def test_files_that_are_new_or_changed_are_decoded(tmp_path: Path, paths: list[Path], decoded: list[str]) -> None:
    before = check(paths, tmp_path / "photos")
    decoded.clear()
    paths[3].write_bytes(paths[0].read_bytes())  # repaired
    status = paths[1].stat()
    assert cv2.imwrite(str(paths[1]), np.full((6, 7, 3), 9, np.uint8))  # of the same size, but later
    os.utime(paths[1], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    new = tmp_path / "photos" / "e.png"
    new.write_bytes(paths[0].read_bytes())
    after = check([*paths, new], tmp_path / "photos")
    assert sorted(decoded) == ["b.png", "d.jpg", "e.png"]
    assert after == [before[0], digest_of(decode_file(paths[1])), before[2], before[0], before[0]]


def test_folders_are_known_apart(tmp_path: Path, paths: list[Path], decoded: list[str]) -> None:
    check(paths, tmp_path / "photos")
    check(paths[1:2], tmp_path / "photos" / "deep")
    assert decoded.count("b.png") == 2


def test_the_checksum_of_a_set_is_the_same_with_and_without_known_digests(tmp_path: Path, paths: list[Path]) -> None:
    digests = [digest for digest in check(paths[:3], tmp_path / "photos") if digest is not None]
    known, unknown = (ImageSet.of(frames, np.zeros(3), ["a", "b"]) for frames in (FileList(paths[:3], digests), FileList(paths[:3])))
    assert known.sha256 == unknown.sha256
    assert known.sha256 != known.take(np.array([0, 2, 1])).sha256
