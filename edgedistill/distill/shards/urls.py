"""The URLs of shards: expanded as WebDataset does it, sorted into splits by file name, opened by the library."""

from __future__ import annotations

import contextlib
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from edgedistill.errors import DataError, MissingExtraError, RecipeError

#: What a shard's file name begins with, when its samples are not for training.
HELD_OUT = {"val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
#: What curl, which the library downloads with, means by its exit status.
CURL_STATUS = {
    "6": "an unknown host",
    "7": "a refused connection",
    "18": "only a part of the file",
    "22": "an error from the server (not found?)",
}


def library() -> Any:
    """Return the `webdataset` module."""
    try:
        import webdataset
    except ImportError as error:
        raise MissingExtraError("webdataset", "workstation") from error
    return webdataset


def expand(text: str) -> list[str]:
    """Return the shards that a text names: braces, `::` between several, `${NAME}` for the environment's WDS_NAME.

    Commands (`pipe:`) are refused: a recipe runs none.
    """
    library()
    from webdataset.shardlists import expand_urls

    try:
        urls = [str(url) for url in expand_urls(text)]
    except (AssertionError, ValueError) as error:  # an environment variable that is missing, braces that do not match
        raise RecipeError(f"data.source: the shards {text!r} cannot be expanded: {error}") from error
    if not all(urls):
        raise RecipeError("data.source: webdataset: needs the paths or URLs of tar files, as in webdataset:train-{000..009}.tar")
    for url in urls:
        if url.startswith("pipe:"):
            raise RecipeError(f"data.source: {url!r} is a command, which a recipe may not run; give a path or a URL")
    return urls


def is_local(url: str) -> bool:
    """Return whether a shard is a file on this machine."""
    return "://" not in url or url.startswith("file://")


def path_of(url: str) -> Path:
    """Return the path of a local shard."""
    return Path(url.removeprefix("file://")).expanduser()


def split_of(url: str) -> str:
    """Return train, validation or test: what the file name of a shard says."""
    name = urlsplit(url).path.rpartition("/")[2] if not is_local(url) else path_of(url).name
    return HELD_OUT.get(re.split(r"[^a-z]", name.lower())[0], "train")


@contextlib.contextmanager
def opened(url: str) -> Iterator[IO[bytes]]:
    """Open a shard to be read once from start to end; DataError when it cannot be opened, breaks off or is no sound tar."""
    if is_local(url) and not path_of(url).is_file():
        raise DataError(f"the shard {url} does not exist; check data.source")
    try:
        stream = library().gopen(str(path_of(url)) if is_local(url) else url)
        try:
            yield stream
        except (tarfile.TarError, EOFError, OSError):
            stream.close()  # a download that failed says so here, and explains the broken tar
            raise
        except BaseException:
            with contextlib.suppress(OSError):  # of a download that was left half way
                stream.close()
            raise
        stream.close()
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"the shard {url} is no sound tar file ({error}); write it again") from error
    except (OSError, ValueError, zlib.error) as error:
        raise DataError(f"the shard {url} cannot be read: {reason(error)}; check data.source and the connection") from error


def reason(error: Exception) -> str:
    """Return why a shard could not be read, without the command line of the download, which can hold a token."""
    if found := re.search(r"exit (-?\d+) \(read\)", str(error)):
        return f"the download ended with {CURL_STATUS.get(found[1], 'status ' + found[1])}"
    return str(error)


def state_of(url: str) -> str | None:
    """Return what changes when a shard is written again, None where that cannot be told."""
    if is_local(url):
        status = path_of(url).stat()
        return f"{status.st_size} {status.st_mtime_ns}"
    if urlsplit(url).scheme not in ("http", "https"):
        return None
    try:
        with urlopen(Request(url, method="HEAD"), timeout=30) as answer:
            marks = [answer.headers.get(name) for name in ("ETag", "Last-Modified")]
            return f"{answer.headers.get('Content-Length')} {marks}" if any(marks) else None
    except (OSError, ValueError):  # a server that knows no HEAD; what else is wrong shows when the shard is read
        return None


def beside(url: str, name: str) -> bytes | None:
    """Return the content of a file in the folder of a shard, None where there is none."""
    other = (
        str(path_of(url).with_name(name)) if is_local(url) else urlsplit(url)._replace(query="").geturl().rpartition("/")[0] + f"/{name}"
    )
    if is_local(url):
        return Path(other).read_bytes() if Path(other).is_file() else None
    try:
        with opened(other) as stream:
            return stream.read()
    except DataError:
        return None
