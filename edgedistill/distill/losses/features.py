"""What every loss on features does with two layers' outputs first: one layout for all of them, and one size for both.

A feature is a map (N, C, H, W); a vector (N, C) is a map of one position, and the tokens (N, T, C) of a transformer are the square of
positions that they were cut from, without the few tokens in front of them that stand for no position.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from edgedistill.distill.losses.batch import Batch, Shapes, upcast
from edgedistill.errors import RecipeError
from edgedistill.recipe import Term

#: Most tokens in front of a transformer's positions: one for the class, four registers.
LEADING = 5


def pairs(batch: Batch, term: Term) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return (student, teacher) features of the term's layers as the networks give them, at least float32."""
    layers = term.layers.items()
    return [(upcast(batch.student_features[mine]), upcast(batch.teacher_features[theirs])) for mine, theirs in layers]


def as_map(features: torch.Tensor) -> torch.Tensor:
    """Return features as a map (N, C, H, W)."""
    channels, height, width = map_shape(tuple(features.shape[1:]))
    if features.ndim == 3:
        features = features[:, -height * width :].transpose(1, 2)
    return features.reshape(-1, channels, height, width)


def map_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return (C, H, W) of features of a shape without the batch dimension; ValueError where they are no map."""
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    if len(shape) == 1:
        return shape[0], 1, 1
    side = math.isqrt(shape[0]) if len(shape) == 2 else 0
    if side < 2 or shape[0] - side**2 > LEADING:
        raise ValueError(f"{shape} is no map")
    return shape[1], side, side


def same_size(student: torch.Tensor, teacher: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two maps at the smaller one's height and width; the larger one is averaged over the positions that fall together."""
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    return functional.adaptive_avg_pool2d(student, size), functional.adaptive_avg_pool2d(teacher, size)


def shape_pairs(term: Term, shapes: Shapes) -> list[tuple[tuple[int, int, int], tuple[int, int, int]]]:
    """Return the (student, teacher) shapes of the term's layers as maps; RecipeError where one is no map."""
    return [_as_maps(term, mine, theirs, shapes) for mine, theirs in term.layers.items()]


def check_maps(term: Term, shapes: Shapes) -> None:
    """Raise RecipeError where a term's layers are no maps."""
    shape_pairs(term, shapes)


def check_positions(term: Term, shapes: Shapes) -> None:
    """Raise RecipeError where a term's layers are no maps of more than one position."""
    for (mine, theirs), maps in zip(term.layers.items(), shape_pairs(term, shapes), strict=True):
        if any(height * width == 1 for _, height, width in maps):
            raise _unusable(term, mine, theirs, shapes, takes="maps (C, H, W) or tokens (T, C) with more than one position")


def _as_maps(term: Term, mine: str, theirs: str, shapes: Shapes) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    try:
        return map_shape(shapes.student[mine]), map_shape(shapes.teacher[theirs])
    except ValueError as error:
        takes = f"(C,), (C, H, W), or tokens (T, C) of a square of positions after at most {LEADING} others"
        raise _unusable(term, mine, theirs, shapes, takes=takes) from error


def _unusable(term: Term, mine: str, theirs: str, shapes: Shapes, *, takes: str) -> RecipeError:
    both = f"the student's {mine!r} of shape {shapes.student[mine]} with the teacher's {theirs!r} of shape {shapes.teacher[theirs]}"
    return RecipeError(f"distill: the loss {term.loss!r} cannot compare {both}; it takes {takes}; name other layers")
