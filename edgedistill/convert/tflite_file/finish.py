"""A TFLite file as a converter or quantizer left it, made ready for those who use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgedistill.bundle import write_atomically
from edgedistill.convert.facts import FileFacts
from edgedistill.convert.tflite_file import ends, flatbuffer, labels, metadata, versions
from edgedistill.convert.tflite_file.describe import tensor
from edgedistill.errors import ConvertError

#: Names the writer, so that a file can be told from others; no version, no path, no date.
_DESCRIPTION = "edgedistill"


def finish(path: Path, facts: FileFacts) -> None:
    """Change a file in place, in one step.

    Weights lie inside of it, the input takes the camera's bytes where it is quantized, the output is float, with softmax where
    `facts` say so; operator versions and minimum runtime are right; metadata and labels are added. The same file and facts give
    the same bytes. Raises ConvertError.
    """
    model = flatbuffer.read(path)
    ends.take_bytes(model, facts.pixel_mean)
    ends.give_floats(model)
    if facts.scores == "probabilities":
        ends.give_probabilities(model)
    ends.name_ends(model, output=facts.scores)
    versions.stamp(model)
    model.description = _DESCRIPTION
    _describe(model, facts)
    write_atomically(path, labels.append(flatbuffer.pack(model), facts.labels))


def _describe(model: Any, facts: FileFacts) -> None:
    graph = model.subgraphs[0]
    image, scores = tensor(graph.tensors[graph.inputs[0]]), tensor(graph.tensors[graph.outputs[0]])
    if scores.shape[-1] != len(facts.labels):
        raise ConvertError(f"the file gives {scores.shape[-1]} scores for {len(facts.labels)} labels; give one label a class")
    flatbuffer.set_metadata(model, metadata.ENTRY, metadata.encode(facts, image, scores))
