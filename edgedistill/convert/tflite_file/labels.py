"""The label file behind a model: a zip archive appended to it, whose one member is stored uncompressed, as readers ask for.

A model with an archive behind it is a model and a zip file at once.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from edgedistill.errors import ConvertError

LABELS_NAME = "labels.txt"
#: The earliest date that a zip file can tell: the same student gives the same bytes at any time.
_DATE = (1980, 1, 1, 0, 0, 0)
#: A longer label file is none.
MOST_BYTES = 16 * 2**20
#: What zipfile raises beside OSError and ValueError: for damage, a missing part, a cipher, a method it lacks.
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, struct.error)
_UNIX, _READABLE = 3, 0o644 << 16


def append(model: bytes, labels: Sequence[str]) -> bytes:
    """Return the model with `labels.txt` behind it, one label a line.

    Raises ConvertError for a label that is no single line.
    """
    for label in labels:
        if label.splitlines() != [label]:
            raise ConvertError(f"the label {label!r} is not one line of text, and a label file has one a line; rename the class")
    stream = io.BytesIO(model)
    member = zipfile.ZipInfo(LABELS_NAME, _DATE)
    member.compress_type, member.create_system, member.external_attr = zipfile.ZIP_STORED, _UNIX, _READABLE
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr(member, "\n".join(labels).encode())
    return stream.getvalue()


def read(path: Path) -> tuple[str, ...]:
    """Return the labels behind a model; none where it has no label file. Raises ConvertError for one that is broken."""
    try:
        if not zipfile.is_zipfile(path):
            return ()
        with zipfile.ZipFile(path) as archive:
            if LABELS_NAME not in archive.namelist():
                return ()
            with archive.open(LABELS_NAME) as member:
                text = member.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise ValueError(f"it is longer than {MOST_BYTES:,} bytes")
        return tuple(text.decode().split("\n"))
    except (*_BROKEN, OSError, ValueError) as error:
        raise ConvertError(f"the label file in {path.name} cannot be read: {error}; finish the file again") from error
