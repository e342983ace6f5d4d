"""One pass over a shard's headers: the key, the label and the place of each sample, without decoding an image.

A local, uncompressed shard is skimmed: only headers and labels are read, and both ends of each image. Others are read through.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from edgedistill.distill.memory import recall, remember
from edgedistill.distill.shards.urls import is_local, opened, path_of, state_of
from edgedistill.distill.soundness import END_BYTES, looks_whole
from edgedistill.errors import DataError

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp")
LABEL_SUFFIXES = ("cls", "json")
BLOCK = tarfile.BLOCKSIZE
Label = int | str | None


@dataclass
class Sample:
    """One key's members; `image` is the suffix of its image, which lies in the tar at `offset`, `size` bytes long."""

    key: str
    image: str = ""
    offset: int = 0
    size: int = 0
    label: Label = None
    problem: str = "has no image (.jpg, .jpeg, .png or .webp)"


@dataclass
class Shard:
    """A shard's samples in their order; `seekable` where images can be read by their offset."""

    url: str
    seekable: bool
    samples: list[Sample] = field(default_factory=list)


def index_of(url: str) -> Shard:
    """Return the samples of a shard, from memory if it is as it was then; DataError for a tar that is missing, broken or cut short."""
    state = state_of(url) if not is_local(url) or path_of(url).is_file() else None
    about = f"shard {path_of(url).resolve() if is_local(url) else url}"
    known = recall(about, tuple[str, Shard])
    if known is not None and known[0] == state:
        return known[1]
    shard = read_index(url)
    if state is not None:
        remember(about, (state, shard))
    return shard


def read_index(url: str) -> Shard:
    """Return the samples of a shard, read from it."""
    seekable = is_local(url) and is_plain(url)
    shard = Shard(url, seekable)
    with opened(url) as stream, tarfile.open(fileobj=stream, mode="r:" if seekable else "r|*") as archive:
        for key, suffix, member in members(archive):
            if not shard.samples or shard.samples[-1].key != key:
                shard.samples.append(Sample(key))
            add(shard.samples[-1], suffix, archive, member)
        check_end(archive, seekable=seekable)
    return shard


def is_plain(url: str) -> bool:
    """Return whether a local file is an uncompressed tar."""
    with opened(url) as stream:
        return stream.read(BLOCK)[257:262] == b"ustar"


def members(archive: tarfile.TarFile) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """Yield (key, suffix, member) of the files that WebDataset sees."""
    from webdataset.tariterators import base_plus_ext

    for member in archive:
        setattr(archive, "members", [])  # noqa: B010 (tarfile keeps them all otherwise; its type stubs do not know the name)
        key, suffix = base_plus_ext(member.name)
        if member.isreg() and key is not None and not member.name.startswith("__"):
            yield key, suffix.lower(), member


def add(sample: Sample, suffix: str, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    """Add one member to its sample."""
    if suffix in LABEL_SUFFIXES:
        label = label_in(suffix, content(archive, member).read(), f"{sample.key}.{suffix}")
        sample.label = sample.label if label is None or (suffix == "json" and sample.label is not None) else label
    elif suffix in IMAGE_SUFFIXES and not sample.image:
        sample.image, sample.offset, sample.size = suffix, member.offset_data, member.size
        sample.problem = "" if looks_whole(*ends(archive, member), member.size) else "is not a whole image"


def ends(archive: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[bytes, bytes]:
    """Return the first and the last bytes of a file; what lies between is skipped where the archive can seek."""
    stream = content(archive, member)
    if archive.fileobj is not None and hasattr(archive.fileobj, "seekable") and member.size > 2 * END_BYTES:
        head = stream.read(END_BYTES)
        stream.seek(member.size - END_BYTES)
        return head, stream.read()
    data = stream.read()
    return data[:END_BYTES], data[-END_BYTES:]


def content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    """Return the content of a regular file."""
    stream = archive.extractfile(member)
    if stream is None:
        raise tarfile.ReadError(f"{member.name} has no content")
    return stream


def label_in(suffix: str, data: bytes, name: str) -> Label:
    """Return the class number or class name in a label file, None for JSON without a "label"."""
    try:
        text = data.decode().strip()
        found = json.loads(text) if suffix == "json" else {"label": text}
    except ValueError as error:  # not UTF-8, not JSON
        raise DataError(f"the label file {name} cannot be read ({error}); write the class, or an object with a label") from error
    label = found.get("label") if isinstance(found, dict) else None
    if label is None:
        return None
    if isinstance(label, bool) or not isinstance(label, int | str) or label == "":
        raise DataError(f"{name}: the label {label!r} is neither a number nor a name of a class")
    return int(label) if str(label).isdecimal() else label


def check_end(archive: tarfile.TarFile, *, seekable: bool) -> None:
    """Raise for a tar that ends without its end mark: Python's tarfile ends as silently at a header that is broken."""
    stream = archive.fileobj
    assert stream is not None
    if seekable:
        stream.seek(archive.offset)
    if stream.read(BLOCK) != bytes(BLOCK):
        raise tarfile.ReadError("it ends without an end mark, or has a broken header")
