"""What a model file says of itself, the same in every format: who made it, what it answers, what its pixels are."""

from __future__ import annotations

from dataclasses import dataclass

from edgedistill.bundle import Preprocess, Scores


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """What is written into a model file beside the network.

    Args:
        name: of the model.
        description: a sentence or two for people.
        author: who made it; empty where that is nobody's business.
        licence: under which the student may be passed on, such as an SPDX name.
        labels: one a class, in the order of the output.
        spec: how frames are brought to the input's size.
        pixel_mean: 0 to 255; what a float32 input is less than the pixel.
        scores: what the output is.
    """

    name: str
    description: str
    author: str
    licence: str
    labels: tuple[str, ...]
    spec: Preprocess
    pixel_mean: int
    scores: Scores
