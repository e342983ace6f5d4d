"""Ranges written beside a bundle's files and read back."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.bundle import Calibration, sha256_of
from edgedistill.convert.calibration import Range, images_sha256, read, write
from edgedistill.errors import ConvertError

PIXELS = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
RANGES = {"pixels": Range(-128.0, 127.0), "conv2d": Range(-1.25, 0.1), "relu": Range(0.0, 6.0)}


def written(path: Path, ranges=RANGES, **changes) -> Calibration:
    return write(ranges, path, **({"student": "trained", "method": "percentile", "pixels_nhwc": PIXELS} | changes))


def test_the_manifest_entry_says_what_the_file_is(tmp_path: Path) -> None:
    entry = written(tmp_path / "calibration.json")
    assert entry == Calibration(
        file="calibration.json",
        sha256=sha256_of(tmp_path / "calibration.json"),
        student="trained",
        method="percentile",
        images=2,
        images_sha256=images_sha256(PIXELS),
    )


def test_the_file_can_be_read_by_people_and_by_machines(tmp_path: Path) -> None:
    written(tmp_path / "x.json", method="mse", student="equalized")
    raw = json.loads((tmp_path / "x.json").read_text())
    assert raw["ranges"] == {"pixels": [-128, 127], "conv2d": [-1.25, 0.1], "relu": [0, 6]}
    assert (raw["format"], raw["method"], raw["student"], raw["images"]) == (1, "mse", "equalized", 2)
    assert (tmp_path / "x.json").read_bytes().endswith(b"}\n")


def test_the_same_ranges_and_images_give_the_same_bytes(tmp_path: Path) -> None:
    written(tmp_path / "a.json")
    written(tmp_path / "b.json", pixels_nhwc=PIXELS[::-1])
    written(tmp_path / "c.json", pixels_nhwc=PIXELS[:1])
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes() != (tmp_path / "c.json").read_bytes()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.json", "b.json", "c.json"]


@given(
    st.dictionaries(st.text(min_size=1), st.tuples(st.floats(-1e30, 0), st.floats(1e-30, 1e30)).map(lambda pair: Range(*pair)), max_size=5)
)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, ranges: dict[str, Range]) -> None:
    path = tmp_path_factory.mktemp("ranges") / "x.json"
    written(path, ranges)
    found = read(path)
    assert found == ranges
    assert list(found) == list(ranges)
    assert all(isinstance(value, Range) for value in found.values())


def test_numpy_numbers_are_written_as_numbers(tmp_path: Path) -> None:
    written(tmp_path / "x.json", {"a": Range(np.float32(-0.5), np.float32(0.25))})
    assert read(tmp_path / "x.json") == {"a": (-0.5, 0.25)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw | {"format": 2}, "format 2, this version reads format 1"),
        (lambda raw: raw | {"extra": 1}, "no calibration ranges"),
        (lambda raw: {key: raw[key] for key in raw if key != "ranges"}, "no calibration ranges"),
        (lambda raw: raw | {"ranges": {"conv": [1]}}, "no calibration ranges"),
        (lambda raw: raw | {"ranges": {"conv": [0.5, 1]}}, r"range of conv is 0\.5 to 1\.0, expected one with 0 in it"),
        (lambda raw: raw | {"ranges": {"conv": [-2, -1]}}, "range of conv"),
        (lambda raw: raw | {"ranges": {"conv": [0, 0]}}, "range of conv"),
        (lambda raw: [raw], "no calibration ranges"),
    ],
)
def test_a_file_that_is_not_right_is_refused(tmp_path: Path, change, message: str) -> None:
    path = tmp_path / "x.json"
    written(path)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ConvertError, match=rf"x\.json.*{message}.*export the bundle again"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{", b"[" * 100_000, b"null"])
def test_no_json_at_all(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ConvertError, match="no calibration ranges"):
        read(tmp_path / "x.json")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="no calibration ranges"):
        read(tmp_path / "none.json")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_ranges_that_are_no_numbers_do_not_come_back(tmp_path: Path, value: float) -> None:
    written(tmp_path / "x.json", {"a": Range(-1.0, value)})
    with pytest.raises(ConvertError, match=r"x\.json"):
        read(tmp_path / "x.json")
