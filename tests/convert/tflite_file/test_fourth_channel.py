"""The constant fourth channel stands beside the image in a TFLite file, and the graph computes the same."""

from __future__ import annotations

import blobs
import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.convert.graph import centred, logits_of, prepare
from edgedistill.convert.graph.rewrite import aten
from edgedistill.convert.tflite_file.fourth_channel import beside
from edgedistill.recipe import HALF_MEAN, HALF_STD

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PIXELS = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)


def targets(graph) -> list:
    return [node.target for node in graph.module.graph.nodes]


def test_a_padded_channel_becomes_a_constant_beside_the_image(student: nn.Module) -> None:
    graph = prepare(student, blobs.SPEC, classes=len(blobs.LABELS), **IMAGENET)
    found = beside(graph)
    assert aten.constant_pad_nd.default in targets(graph)
    assert aten.constant_pad_nd.default not in targets(found)
    assert targets(found).count(aten.cat.default) == 1
    with torch.inference_mode():
        assert found.module(centred(graph, PIXELS)).numpy() == pytest.approx(logits_of(graph, PIXELS), abs=1e-6)


def test_a_graph_without_a_fourth_channel_stays_as_it_is(student: nn.Module) -> None:
    graph = prepare(student, blobs.SPEC, mean=HALF_MEAN, std=HALF_STD, classes=len(blobs.LABELS))
    assert beside(graph) is graph


def test_paddings_of_the_image_itself_stay() -> None:
    class Padded(blobs.Student):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(nn.functional.pad(x, (1, 1, 1, 1))[:, :, 1:-1, 1:-1])

    graph = prepare(Padded().eval(), blobs.SPEC, classes=len(blobs.LABELS), **IMAGENET)
    kept = [node for node in beside(graph).module.graph.nodes if node.target is aten.constant_pad_nd.default]
    assert len(kept) + targets(beside(graph)).count(aten.pad.default) >= 1
