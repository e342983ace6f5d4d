"""FlatBuffers without generated code: a table is a dictionary from a field's number in the schema to its value."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flatbuffers
import flatbuffers.number_types as numbers
from flatbuffers.table import Table as Reader

Table = dict[int, Any]
"""Values are text, `Number`, a table, or a list of texts, of tables or of floats; None and empty lists are left out."""


class Number(NamedTuple):
    """A number that lies in the table itself; `kind` is `byte` or `uint`."""

    value: int
    kind: str


_FLAGS = {"byte": numbers.Uint8Flags, "uint": numbers.Uint32Flags}


def write(table: Table, *, identifier: bytes) -> bytes:
    """Return a buffer with a table as its root."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(_table(builder, table), identifier)
    return bytes(builder.Output())


def _table(builder: flatbuffers.Builder, table: Table) -> int:
    fields = {slot: value for slot, value in table.items() if value is not None and value != []}
    # What a table points at is written before it.
    placed = {slot: value if isinstance(value, Number) else _pointed_at(builder, value) for slot, value in fields.items()}
    builder.StartObject(max(placed, default=-1) + 1)
    for slot, value in placed.items():
        if isinstance(value, Number):
            builder.PrependSlot(_FLAGS[value.kind], slot, value.value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    found: int = builder.EndObject()
    return found


def _pointed_at(builder: flatbuffers.Builder, value: str | Table | Sequence[Any]) -> int:
    if isinstance(value, str):
        text: int = builder.CreateString(value)
        return text
    if isinstance(value, dict):
        return _table(builder, value)
    floats = isinstance(value[0], float)
    items = list(value) if floats else [_pointed_at(builder, item) for item in value]
    builder.StartVector(4, len(items), 4)
    place: Callable[[Any], None] = builder.PrependFloat32 if floats else builder.PrependUOffsetTRelative
    for item in reversed(items):
        place(item)
    vector: int = builder.EndVector()
    return vector


#: What reading a table raises where the bytes are none: behind the end, no text.
BROKEN = (struct.error, ValueError, TypeError)


class Found:
    """A table that was read; a field that is not there is None, 0 or an empty list. Broken bytes raise one of `BROKEN`."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @classmethod
    def root(cls, data: bytes) -> Found:
        """Return the root table of a buffer."""
        return cls(Reader(data, int.from_bytes(data[:4], "little")))

    def text(self, slot: int) -> str:
        """Return a text field."""
        offset = self._offset(slot)
        return self._reader.String(offset + self._reader.Pos).decode() if offset else ""

    def number(self, slot: int, kind: str) -> int:
        """Return a number field."""
        offset = self._offset(slot)
        return int(self._reader.Get(_FLAGS[kind], offset + self._reader.Pos)) if offset else 0

    def table(self, slot: int) -> Found | None:
        """Return a table field."""
        offset = self._offset(slot)
        return Found(Reader(self._reader.Bytes, self._reader.Indirect(offset + self._reader.Pos))) if offset else None

    def tables(self, slot: int) -> list[Found]:
        """Return a field that is a list of tables."""
        places = self._places(slot)
        return [Found(Reader(self._reader.Bytes, self._reader.Indirect(place))) for place in places]

    def floats(self, slot: int) -> list[float]:
        """Return a field that is a list of floats."""
        return [float(self._reader.Get(numbers.Float32Flags, place)) for place in self._places(slot)]

    def _offset(self, slot: int) -> int:
        return int(self._reader.Offset(4 + 2 * slot))

    def _places(self, slot: int) -> list[int]:
        offset = self._offset(slot)
        if not offset:
            return []
        start, length = self._reader.Vector(offset), self._reader.VectorLen(offset)
        if start + 4 * length > len(self._reader.Bytes):
            raise ValueError(f"a list of {length} entries is longer than the file")
        return [start + 4 * i for i in range(length)]
