"""A folder appears whole or not at all, whatever goes wrong half way."""

from __future__ import annotations

import errno
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_bundle

from edgedistill import bundle
from edgedistill.convert.staging import check_place, clear_up, staged
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


HALF_WAY = """
import signal, sys, time
from pathlib import Path
from edgedistill.convert import staging
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
out, where = Path(sys.argv[1]), sys.argv[2]
def wait(*_):
    print("half way", flush=True)
    time.sleep(60)
if where == "swapping":
    rename = Path.rename
    Path.rename = lambda self, target: wait() if self.name == "new" else rename(self, target)
with staging.staged(out) as folder:
    (folder / "manifest.json").write_text("half")
    if where == "writing":
        wait()
"""


@pytest.fixture
def half_way():
    """Start processes that stand still in the middle of an export, and end those that a test leaves."""
    started: list[subprocess.Popen[str]] = []

    def start(out: Path, where: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HALF_WAY, str(out), where], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "half way\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("where", ["writing", "swapping"])
def test_an_interrupt_leaves_the_old_bundle_and_nothing_else(tmp_path: Path, half_way, where: str) -> None:
    out = tiny_bundle.make(tmp_path / "bundle")
    process = half_way(out, where)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) != 0
    bundle.load(out)
    assert names(tmp_path) == ["bundle"]


@pytest.mark.parametrize("where", ["writing", "swapping"])
def test_what_a_killed_export_left_is_cleared_up_by_the_next(tmp_path: Path, half_way, where: str) -> None:
    out = tiny_bundle.make(tmp_path / "bundle")
    (out / "card.md").write_text("mine")
    process = half_way(out, where)
    process.kill()
    process.wait(30)
    assert len(names(tmp_path)) == (2 if where == "writing" else 1)
    with pytest.raises(ValueError, match="x"):
        fail_half_way(out, ValueError("x"))
    bundle.load(out)
    assert (out / "card.md").read_text() == "mine"
    assert names(tmp_path) == ["bundle"]


def test_an_export_that_is_still_at_work_is_left_alone(tmp_path: Path, half_way) -> None:
    out = tmp_path / "bundle"
    half_way(out, "writing")
    before = names(tmp_path)
    assert len(before) == 1
    with staged(out) as folder:
        (folder / "manifest.json").write_text("new")
    assert names(tmp_path) == sorted([*before, "bundle"])


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    for name in (".bundle.mine", ".bundles"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").touch()
    clear_up(tmp_path / "bundle")
    assert names(tmp_path) == [".bundle.mine", ".bundles"]


def write_more_than_is_allowed(out: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with staged(out) as folder:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
            (folder / "model.tflite").write_bytes(bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_real_full_disk(tmp_path: Path) -> None:
    out = tiny_bundle.make(tmp_path / "bundle")
    with pytest.raises(ConvertError, match=r"cannot write the bundle .*File too large.*free some space"):
        write_more_than_is_allowed(out)
    bundle.load(out)
    assert names(tmp_path) == ["bundle"]
