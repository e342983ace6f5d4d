"""What a recipe's text means by its shards, and what is said of shards that cannot be read."""

from pathlib import Path

import pytest
import tiny_shards

from edgedistill.distill.shards.urls import beside, expand, is_local, opened, reason, split_of, state_of
from edgedistill.errors import DataError, RecipeError


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("a.tar", ["a.tar"]),
        ("x/{train-{000..002},test-000}.tar", ["x/train-000.tar", "x/train-001.tar", "x/train-002.tar", "x/test-000.tar"]),
        ("http://host/{0..1}.tar", ["http://host/0.tar", "http://host/1.tar"]),
        ("a.tar::b-{1..2}.tar", ["a.tar", "b-1.tar", "b-2.tar"]),
    ],
)
def test_braces_are_expanded_as_the_library_does_it(text: str, urls: list[str]) -> None:
    assert expand(text) == urls


def test_the_environment_can_have_a_part_of_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WDS_STORE", "/big")
    assert expand("${STORE}/a.tar") == ["/big/a.tar"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs the paths or URLs of tar files"),
        ("a.tar::", "needs the paths or URLs of tar files"),
        ("${NOWHERE}/a.tar", "WDS_NOWHERE"),
        ("train-{0..3.tar", "cannot be expanded"),
        ("pipe:cat a.tar", "is a command, which a recipe may not run"),
        ("a.tar::pipe:curl http://host/a.tar", "is a command"),
    ],
)
def test_texts_that_name_no_shards_are_refused(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        expand(text)


@pytest.mark.parametrize(
    ("url", "split"),
    [
        ("train-000.tar", "train"),
        ("shard-7.tar", "train"),
        ("values-7.tar", "train"),
        ("VALID7.tar", "validation"),
        ("/data/val-0.tar", "validation"),
        ("/data/validation_000.tar", "validation"),
        ("/data/test/train-0.tar", "train"),
        ("/data/Test-0.tar", "test"),
        ("https://host/data/test-0.tar?key=val/x", "test"),
        ("file:///data/val.tar", "validation"),
    ],
)
def test_the_file_name_says_the_split(url: str, split: str) -> None:
    assert split_of(url) == split


@pytest.mark.parametrize(("url", "local"), [("a.tar", True), ("file:///a.tar", True), ("http://h/a.tar", False), ("s3://b/a.tar", False)])
def test_which_shards_are_on_this_machine(url: str, *, local: bool) -> None:
    assert is_local(url) is local


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing-0\.tar does not exist"), opened(str(tmp_path / "nothing-0.tar")):
        pass


def test_a_missing_shard_on_a_server_is_named(tmp_path: Path) -> None:
    with tiny_shards.served(tmp_path) as (url, _):
        with (
            pytest.raises(DataError, match=r"nothing\.tar cannot be read.*an error from the server"),
            opened(f"{url}/nothing.tar") as stream,
        ):
            stream.read()
        assert beside(f"{url}/train-0.tar", "classes.txt") is None


def test_no_server_is_named() -> None:
    with pytest.raises(DataError, match="refused connection"), opened("http://127.0.0.1:9/a.tar") as stream:
        stream.read()


def test_an_error_does_not_repeat_the_command_line_of_a_download() -> None:
    error = OSError("((['curl', '-H', 'Authorization:Bearer secret', 'https://host'],), {}): exit 18 (read) {}")
    assert reason(error) == "the download ended with only a part of the file"
    assert reason(OSError("exit 99 (read)")) == "the download ended with status 99"
    assert reason(ValueError("no handler")) == "no handler"


@pytest.mark.parametrize("remote", [False, True])
def test_files_beside_a_shard_are_read(tmp_path: Path, *, remote: bool) -> None:
    (tmp_path / "classes.txt").write_text("bag\nshoe\n")
    with tiny_shards.served(tmp_path) as (url, _):
        shard = f"{url}/train-0.tar?x=1" if remote else str(tmp_path / "train-0.tar")
        assert beside(shard, "classes.txt") == b"bag\nshoe\n"
        assert beside(shard, "classes.json") is None


@pytest.mark.parametrize("remote", [False, True])
def test_the_state_changes_with_the_shard(tmp_path: Path, *, remote: bool) -> None:
    shard = tmp_path / "train-0.tar"
    shard.write_bytes(b"1")
    with tiny_shards.served(tmp_path) as (url, _):
        place = f"{url}/train-0.tar" if remote else str(shard)
        first = state_of(place)
        assert first is not None
        assert state_of(place) == first
        shard.write_bytes(b"12")
        assert state_of(place) != first
        if remote:
            assert state_of(f"{url}/nothing.tar") is None


def test_the_state_of_other_stores_cannot_be_told() -> None:
    assert state_of("s3://bucket/a.tar") is None
