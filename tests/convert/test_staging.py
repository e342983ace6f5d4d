"""A folder appears whole or not at all, whatever goes wrong half way."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import tiny_bundle

from edgedistill import bundle
from edgedistill.convert.staging import check_place, staged
from edgedistill.errors import ConvertError


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def fail_half_way(out: Path, error: BaseException) -> None:
    with staged(out) as folder:
        (folder / "manifest.json").write_text("half")
        raise error


def test_the_folder_appears_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "er" / "bundle"
    with staged(out) as folder:
        (folder / "a").write_text("new")
        assert not out.exists()
        assert folder.parent.parent == out.parent
    assert names(out) == ["a"]
    assert names(out.parent) == ["bundle"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize("old", [True, False])
def test_a_failure_leaves_everything_as_it_was(tmp_path: Path, error: BaseException, old: bool) -> None:
    out = tmp_path / "bundle"
    if old:
        tiny_bundle.make(out)
    before = {path.name: path.read_bytes() for path in out.iterdir()} if old else {}
    with pytest.raises(type(error)):
        fail_half_way(out, error)
    assert names(tmp_path) == (["bundle"] if old else [])
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before if old else not out.exists()


def test_a_full_disk_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=r"cannot write the bundle .*No space left.*free some space"), staged(tmp_path / "b"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_an_old_bundle_is_replaced_and_what_lay_beside_it_stays(tmp_path: Path) -> None:
    out = tiny_bundle.make(tmp_path / "bundle")
    (out / "README.md").write_text("my notes")
    (out / "pictures").mkdir()
    (out / "pictures" / "a.txt").write_text("a")
    with staged(out) as folder:
        (folder / "manifest.json").write_text("new")
    assert names(out) == ["README.md", "manifest.json", "pictures"]
    assert (out / "manifest.json").read_text() == "new"
    assert (out / "pictures" / "a.txt").read_text() == "a"
    assert names(tmp_path) == ["bundle"]


def test_a_new_file_wins_over_one_that_lay_there(tmp_path: Path) -> None:
    out = tiny_bundle.make(tmp_path / "bundle")
    (out / "card.md").write_text("old")
    with staged(out) as folder:
        (folder / "card.md").write_text("new")
    assert (out / "card.md").read_text() == "new"


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    with staged(tmp_path / "empty") as folder:
        (folder / "a").touch()
    (tmp_path / "other").mkdir()
    with staged(tmp_path / "other") as folder:
        (folder / "b").touch()
    assert names(tmp_path / "other") == ["b"]


def test_a_link_to_a_bundle_keeps_pointing_at_it(tmp_path: Path) -> None:
    real = tiny_bundle.make(tmp_path / "real")
    link = tmp_path / "link"
    link.symlink_to(real)
    with staged(link) as folder:
        (folder / "manifest.json").write_text("new")
    assert link.is_symlink()
    assert (real / "manifest.json").read_text() == "new"


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(ConvertError, match=r"not empty and not a bundle .*choose another folder"), staged(tmp_path):
        pytest.fail("the block must not run")
    assert names(tmp_path) == ["thesis.txt"]


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(ConvertError, match="is a file"):
        check_place(tmp_path / "out")


def test_a_broken_old_bundle_is_not_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "manifest.json").write_text("{}")
    with pytest.raises(ConvertError, match="cannot be replaced"), staged(tmp_path / "old") as folder:
        (folder / "a").touch()
    assert names(tmp_path / "old") == ["manifest.json"]
    assert names(tmp_path) == ["old"]


def test_the_old_bundle_comes_back_when_the_swap_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tiny_bundle.make(tmp_path / "bundle")
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(ConvertError, match="Input/output error"), staged(out) as folder:
        (folder / "manifest.json").write_text("new")
    bundle.load(out)
    assert names(tmp_path) == ["bundle"]
