"""TFLite metadata, after the published schema (tensorflow/tflite-support, metadata_schema.fbs 1.1.0): what MediaPipe and others read.

Only what describes a classifier is written: the model, its image and how it is normalized, its scores and their labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgedistill.bundle import Tensor
from edgedistill.convert.facts import FileFacts
from edgedistill.convert.tflite_file.labels import LABELS_NAME
from edgedistill.convert.tflite_file.tables import BROKEN, Found, Number, Table, write
from edgedistill.errors import ConvertError

IDENTIFIER = b"M001"
#: Name of the model's entry that holds the metadata.
ENTRY = "TFLITE_METADATA"
#: No field is newer than the first release of the schema.
_PARSER = "1.0.0"

# Numbers of the schema: fields by table, members of unions and enumerations.
_MODEL = {"name": 0, "description": 1, "version": 2, "subgraphs": 3, "author": 4, "license": 5, "parser": 7}
_GRAPH = {"name": 0, "inputs": 2, "outputs": 3}
_TENSOR = {"name": 0, "description": 1, "content": 3, "process": 4, "stats": 5, "files": 6}
_FEATURE, _IMAGE, _RGB, _NORMALIZATION, _AXIS_LABELS = (Number(value, "byte") for value in (1, 2, 1, 1, 2))


@dataclass(frozen=True, kw_only=True)
class Described:
    """What metadata say of a file, as far as this module writes it."""

    name: str
    description: str
    author: str
    licence: str
    width: int
    height: int
    mean: list[float]
    std: list[float]
    output: str
    labels_file: str


def encode(facts: FileFacts, image: Tensor, scores: Tensor) -> bytes:
    """Return the metadata of a file with this input and output."""
    root = {
        _MODEL["name"]: facts.name,
        _MODEL["description"]: facts.description,
        _MODEL["version"]: "1",
        _MODEL["subgraphs"]: [
            {_GRAPH["name"]: "main", _GRAPH["inputs"]: [_image(facts, image)], _GRAPH["outputs"]: [_scores(facts, scores)]}
        ],
        _MODEL["author"]: facts.author,
        _MODEL["license"]: facts.licence,
        _MODEL["parser"]: _PARSER,
    }
    return write(root, identifier=IDENTIFIER)


def _image(facts: FileFacts, image: Tensor) -> Table:
    spec, mean = facts.spec, float(facts.pixel_mean)
    centred = image.dtype == "float32"
    low, high = (-mean, 255.0 - mean) if centred else (0.0, 255.0)
    size = {0: Number(spec.width, "uint"), 1: Number(spec.height, "uint")}
    return {
        _TENSOR["name"]: image.name,
        _TENSOR["description"]: "RGB pixels of an image" + (f", minus {facts.pixel_mean}" if centred and facts.pixel_mean else ""),
        _TENSOR["content"]: {0: _IMAGE, 1: {0: _RGB, 1: size}},
        # Of a uint8 image too: readers take the quantization into account, which leads back to the pixel.
        _TENSOR["process"]: [{0: _NORMALIZATION, 1: {0: [mean], 1: [1.0]}}],
        _TENSOR["stats"]: {0: [high], 1: [low]},
    }


def _scores(facts: FileFacts, scores: Tensor) -> Table:
    labels = {0: LABELS_NAME, 1: "The classes, one a line, in the order of the scores", 2: _AXIS_LABELS}
    return {
        _TENSOR["name"]: scores.name,
        _TENSOR["description"]: f"{facts.scores.capitalize()} of the classes",
        _TENSOR["content"]: {0: _FEATURE, 1: {}},
        _TENSOR["stats"]: {0: [1.0], 1: [0.0]} if facts.scores == "probabilities" else None,
        _TENSOR["files"]: [labels],
    }


def decode(data: bytes) -> Described:
    """Return what the metadata of a classifier say; raises ConvertError for others."""
    if data[4:8] != IDENTIFIER:
        raise ConvertError(f"the metadata lack the identifier {IDENTIFIER.decode()}; finish the file again")
    try:
        return _described(Found.root(data))
    except (IndexError, AttributeError) as error:  # a list without entries, a table that is not there
        raise ConvertError("the metadata are not those of an image classifier; finish the file again") from error
    except BROKEN as error:
        raise ConvertError(f"the metadata are broken: {error}; finish the file again") from error


def _described(root: Found) -> Described:
    graph = root.tables(_MODEL["subgraphs"])[0]
    image, scores = graph.tables(_GRAPH["inputs"])[0], graph.tables(_GRAPH["outputs"])[0]
    size = _path(image, _TENSOR["content"], 1, 1)
    normalization = _path(image.tables(_TENSOR["process"])[0], 1)
    labels = scores.tables(_TENSOR["files"])[0]
    return Described(
        name=root.text(_MODEL["name"]),
        description=root.text(_MODEL["description"]),
        author=root.text(_MODEL["author"]),
        licence=root.text(_MODEL["license"]),
        width=size.number(0, "uint"),
        height=size.number(1, "uint"),
        mean=normalization.floats(0),
        std=normalization.floats(1),
        output=scores.text(_TENSOR["name"]),
        labels_file=labels.text(0),
    )


def _path(found: Any, *slots: int) -> Any:
    for slot in slots:
        found = found.table(slot)
    if found is None:
        raise AttributeError("a table is not there")
    return found
