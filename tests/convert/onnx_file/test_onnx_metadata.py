"""What an ONNX file says of itself comes back as it went in, in the same bytes every time."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import blobs
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_onnx_write import run, secrets

import edgedistill
from edgedistill.convert.facts import FileFacts
from edgedistill.convert.graph import centred
from edgedistill.convert.onnx_file import finish, read_metadata
from edgedistill.convert.onnx_file.metadata import properties
from edgedistill.convert.quantize import Work, quantize
from edgedistill.errors import ConvertError

FACTS = FileFacts(
    name="blobs",
    description="Tells colours and rows.",
    author="Ada",
    licence="MIT",
    labels=("red up", "grün, „oben“", "blue\nup", "red down", "green down", "青い"),
    spec=blobs.SPEC,
    pixel_mean=128,
    scores="logits",
)


@pytest.fixture
def file(onnx_work: Work, tmp_path: Path) -> Path:
    """Return a file of one's own."""
    return Path(shutil.copy(onnx_work.fp32, tmp_path / "x.onnx"))


def test_everything_comes_back(file: Path) -> None:
    finish(file, FACTS)
    found = read_metadata(file)
    assert tuple(json.loads(found.pop("labels"))) == FACTS.labels
    assert found == {
        "name": "blobs",
        "description": "Tells colours and rows.",
        "author": "Ada",
        "licence": "MIT",
        "task": "classification",
        "color": "RGB",
        "layout": "NHWC",
        "height": "16",
        "width": "16",
        "resize": "crop",
        "interpolation": "area",
        "mean": "128",
        "std": "1",
        "pixel_mean": "128",
        "scores": "logits",
        "edgedistill": edgedistill.__version__,
    }


def test_onnxruntime_shows_it_to_a_user(file: Path) -> None:
    finish(file, FACTS)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    shown = session.get_modelmeta().custom_metadata_map
    assert json.loads(shown["labels"]) == list(FACTS.labels)
    assert (shown["mean"], shown["std"]) == ("128", "1")


def test_mean_and_std_are_what_makes_a_pixel_the_input(file: Path, onnx_work: Work) -> None:
    finish(file, FACTS)
    found = read_metadata(file)
    pixels = onnx_work.pixels_nhwc[:4]
    fed = ((pixels.astype(np.float32) - float(found["mean"])) / float(found["std"])).astype(np.float32)
    assert np.array_equal(fed, centred(onnx_work.graph, pixels).numpy())


def test_a_file_that_takes_bytes_wants_no_normalization(onnx_work: Work, tmp_path: Path) -> None:
    quantize("onnx", "static_int8", onnx_work, tmp_path / "x.onnx")
    finish(tmp_path / "x.onnx", FACTS)
    found = read_metadata(tmp_path / "x.onnx")
    assert (found["mean"], found["std"], found["pixel_mean"]) == ("0", "1", "128")


def test_the_answers_stay_the_same(file: Path, onnx_work: Work) -> None:
    fed = centred(onnx_work.graph, onnx_work.pixels_nhwc[:4]).numpy()
    before = run(file, fed)
    finish(file, FACTS)
    assert np.array_equal(run(file, fed), before)
    onnx.checker.check_model(onnx.load(str(file)), full_check=True)


def test_finishing_twice_or_anew_gives_the_same_bytes(file: Path) -> None:
    finish(file, dataclasses.replace(FACTS, name="something else", labels=("a", "b")))
    finish(file, FACTS)
    once = file.read_bytes()
    finish(file, FACTS)
    assert file.read_bytes() == once
    assert [secret for secret in secrets(file.parent) if secret.encode() in once] == []
    assert [item.name for item in file.parent.iterdir()] == ["x.onnx"]


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"\xff\xffnot a model")
    with pytest.raises(ConvertError, match=r"x\.onnx is not an ONNX file"):
        finish(tmp_path / "x.onnx", FACTS)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(labels=st.lists(TEXT, min_size=2, max_size=5), name=TEXT, pixel_mean=st.integers(0, 255))
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_text_survives(labels: list[str], name: str, pixel_mean: int) -> None:
    model = onnx.ModelProto()
    facts = dataclasses.replace(FACTS, labels=tuple(labels), name=name, pixel_mean=pixel_mean)
    for key, value in properties(facts, dtype="float32").items():
        model.metadata_props.add(key=key, value=value)
    found = {item.key: item.value for item in onnx.ModelProto.FromString(model.SerializeToString()).metadata_props}
    assert (json.loads(found["labels"]), found["name"], int(found["mean"])) == (labels, name, pixel_mean)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    model = onnx.ModelProto()
    model.metadata_props.add(key="name", value="tiny")
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString().replace(b"tiny", b"ti\xffy"))
    with pytest.raises(ConvertError, match=r"x\.onnx (says of itself what is no text|is not an ONNX file).*; write it again"):
        read_metadata(tmp_path / "x.onnx")
