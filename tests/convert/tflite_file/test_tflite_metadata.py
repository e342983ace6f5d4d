"""Metadata and label files: what is written is read again, whatever the names, and by readers that know only the schema."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import finished
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.bundle import Preprocess, Quantization, Tensor
from edgedistill.convert.tflite_file import labels, metadata
from edgedistill.convert.tflite_file.tables import Found, Number, write
from edgedistill.errors import ConvertError

IMAGE = Tensor(name="pixels", shape=[1, 12, 16, 3], dtype="float32", layout="NHWC")
BYTES = Tensor(name="pixels", shape=[1, 12, 16, 3], dtype="uint8", layout="NHWC", quantization=Quantization(scale=1.0, zero_point=7))
SCORES = Tensor(name="logits", shape=[1, 3], dtype="float32", layout="NC")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
LINE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=30)


@given(TEXT, TEXT, TEXT, TEXT, st.integers(1, 5000), st.integers(1, 5000), st.integers(0, 255))
def test_any_text_comes_back(name: str, description: str, author: str, licence: str, height: int, width: int, pixel_mean: int) -> None:
    said = finished.facts(
        name=name,
        description=description,
        author=author,
        licence=licence,
        spec=Preprocess(height=height, width=width),
        pixel_mean=pixel_mean,
    )
    found = metadata.decode(metadata.encode(said, IMAGE, SCORES))
    assert (found.name, found.description, found.author, found.licence) == (name, description, author, licence)
    assert (found.height, found.width, found.mean, found.std) == (height, width, [float(pixel_mean)], [1.0])
    assert (found.output, found.labels_file) == ("logits", "labels.txt")


@given(st.lists(LINE, min_size=1, max_size=20))
def test_any_labels_come_back(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "labelled.tflite"
    path.write_bytes(labels.append(b"TFL3" * 9, names))
    assert labels.read(path) == tuple(names)


@pytest.mark.parametrize("label", ["two\nlines", "ends\r", "", "page\fbreak", "\u2028"])
def test_a_label_that_is_no_single_line_is_refused(label: str) -> None:
    with pytest.raises(ConvertError, match=r"is not one line of text.*rename the class"):
        labels.append(b"model", ["fine", label])


def test_the_label_file_is_stored_uncompressed_behind_an_unchanged_model(tmp_path: Path) -> None:
    model = bytes(range(256)) * 4
    data = labels.append(model, ["cat", "dog"])
    assert data == labels.append(model, ["cat", "dog"])
    assert data.startswith(model)
    (tmp_path / "x").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "x") as archive:
        (member,) = archive.infolist()
        assert archive.testzip() is None
    assert (member.filename, member.compress_type, member.date_time) == ("labels.txt", zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0))
    assert b"cat\ndog" in data[len(model) :]


def test_a_file_without_labels_has_none(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no archive")
    assert labels.read(tmp_path / "x") == ()
    with zipfile.ZipFile(tmp_path / "y", "w") as archive:
        archive.writestr("other.txt", "")
    assert labels.read(tmp_path / "y") == ()


def graph_of(data: bytes) -> Found:
    return Found.root(data).tables(3)[0]


@pytest.mark.parametrize(("image", "low", "high"), [(IMAGE, -7.0, 248.0), (BYTES, 0.0, 255.0)])
def test_the_image_is_described_by_the_schemas_numbers(image: Tensor, low: float, high: float) -> None:
    data = metadata.encode(finished.facts(pixel_mean=7), image, SCORES)
    assert data[4:8] == b"M001"
    found = graph_of(data).tables(2)[0]
    content, stats = found.table(3), found.table(5)
    assert content is not None
    assert stats is not None
    properties = content.table(1)
    assert properties is not None
    assert content.number(0, "byte") == 2, "ImageProperties"
    assert properties.number(0, "byte") == 1, "RGB"
    assert (stats.floats(0), stats.floats(1)) == ([high], [low])
    (unit,) = found.tables(4)
    assert unit.number(0, "byte") == 1, "NormalizationOptions"


@pytest.mark.parametrize(("scores", "highest"), [("logits", []), ("probabilities", [1.0])])
def test_scores_are_described_with_their_labels(scores: str, highest: list[float]) -> None:
    found = graph_of(metadata.encode(finished.facts(scores=scores), IMAGE, SCORES)).tables(3)[0]
    (file,) = found.tables(6)
    assert (file.text(0), file.number(2, "byte")) == ("labels.txt", 2), "TENSOR_AXIS_LABELS"
    content, stats = found.table(3), found.table(5)
    assert content is not None
    assert content.number(0, "byte") == 1, "FeatureProperties"
    assert (stats.floats(0) if stats else []) == highest


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no metadata at all", "lack the identifier M001"),
        (write({0: "a model"}, identifier=b"M001"), "not those of an image classifier"),
        (write({3: [{2: [{0: "x"}], 3: [{0: "y"}]}]}, identifier=b"M001"), "not those of an image classifier"),
    ],
)
def test_other_metadata_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ConvertError, match=message):
        metadata.decode(data)


@pytest.mark.parametrize("cut", [8, 40, 100, 200])
def test_metadata_that_are_cut_short_are_refused(cut: int) -> None:
    with pytest.raises(ConvertError, match=r"the metadata are (broken: |not those of).*; finish the file again"):
        metadata.decode(metadata.encode(finished.facts(), IMAGE, SCORES)[:cut])


def test_a_list_longer_than_the_file_takes_no_memory() -> None:
    data = write({3: [1.0, 2.0]}, identifier=b"M001")
    with pytest.raises(ConvertError, match="a list of 4294967295 entries is longer than the file"):
        metadata.decode(data.replace(struct.pack("<If", 2, 1.0), struct.pack("<If", 2**32 - 1, 1.0)))


def labelled(**changes: bytes) -> bytes:
    """Return a model with labels behind it, in which something is replaced."""
    data = labels.append(b"TFL3" * 9, ["cat", "dog"])
    return data.replace(changes["old"], changes["new"]) if changes else data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (labelled(old=b"cat", new=b"cow"), "CRC"),
        (labelled(old=b"PK\x01\x02", new=b"PK\x01\xff"), "magic"),
        (labelled(old=b"PK\x03\x04", new=b"PK\x03\xff"), "magic"),
    ],
)
def test_a_label_file_that_is_broken_is_told(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(ConvertError, match=rf"the label file in x cannot be read: .*{message}.*; finish the file again"):
        labels.read(tmp_path / "x")


def test_labels_that_unpack_to_more_than_labels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "MOST_BYTES", 6)
    (tmp_path / "x").write_bytes(labelled())
    with pytest.raises(ConvertError, match="it is longer than 6 bytes"):
        labels.read(tmp_path / "x")


TABLES = st.recursive(
    st.dictionaries(st.integers(0, 5), st.one_of(TEXT, st.integers(1, 255).map(lambda value: Number(value, "byte")))),
    lambda inner: st.dictionaries(st.integers(0, 5), st.one_of(inner, st.lists(inner, min_size=1, max_size=3), TEXT), max_size=4),
    max_leaves=8,
)


def same(found: Found, table: dict) -> bool:
    """Return whether a table that was read holds what was written."""
    for slot in range(6):
        value = table.get(slot)
        if isinstance(value, str):
            good = found.text(slot) == value
        elif isinstance(value, Number):
            good = found.number(slot, value.kind) == value.value
        elif isinstance(value, dict):
            inner = found.table(slot)
            good = inner is not None and same(inner, value)
        elif isinstance(value, list):
            parts = found.tables(slot)
            good = len(parts) == len(value) and all(map(same, parts, value))
        else:
            good = found.text(slot) == "" and found.table(slot) is None and found.tables(slot) == found.floats(slot) == []
        if not good:
            return False
    return True


@settings(max_examples=40)
@given(TABLES)
def test_any_table_comes_back(table: dict) -> None:
    assert same(Found.root(write(table, identifier=b"TEST")), table)


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=9), st.integers(0, 2**32 - 1))
def test_floats_and_numbers_come_back(values: list[float], number: int) -> None:
    found = Found.root(write({1: values, 2: Number(number, "uint")}, identifier=b"TEST"))
    assert (found.floats(1), found.number(2, "uint")) == (values, number)


def test_what_is_none_or_empty_takes_no_place() -> None:
    assert write({0: None, 1: []}, identifier=b"TEST") == write({}, identifier=b"TEST")
    assert struct.unpack("<I", write({}, identifier=b"TEST")[:4])[0] > 4
