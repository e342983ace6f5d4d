"""Students made hard to quantize: the same to the bit in float, much worse in 8 bits, and set right by what corrects them."""

from __future__ import annotations

from pathlib import Path

import blobs
import numpy as np
import pytest
from small_graphs import LAYERS, minmax

from edgedistill.convert.calibration import observe, ranges_of
from edgedistill.convert.correct import correct_bias, equalize
from edgedistill.convert.correct.harden import made_hard
from edgedistill.convert.correct.simulate import simulated_logits
from edgedistill.convert.graph import Graph, logits_of, prepare
from edgedistill.convert.graph.batch_norm import weights_of
from edgedistill.convert.pixels import model_pixels
from edgedistill.convert.quantize import Work, quantize
from edgedistill.recipe import HALF_MEAN, HALF_STD

MODEL = Path(__file__).parents[2] / "models" / "fashion-mnist-mobilenetv3"


@pytest.fixture(scope="module")
def graph(student) -> Graph:
    return prepare(student, blobs.SPEC, mean=HALF_MEAN, std=HALF_STD, classes=len(blobs.LABELS))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return model_pixels(blobs.frames(128, seed=2)[0], blobs.SPEC)


def error(other: np.ndarray, true: np.ndarray) -> float:
    """Return the power of the difference as a part of the true logits' own."""
    return float(((other - true) ** 2).mean() / true.var())


def test_the_function_is_the_same_to_the_bit(graph: Graph, images: np.ndarray):
    hard = made_hard(graph, 0, octaves=8)
    np.testing.assert_array_equal(logits_of(hard, images), logits_of(graph, images))
    factors = [
        weights_of(module, node)[0].abs().flatten(1).amax(1).numpy()
        for module in (graph.module, hard.module)
        for node in module.graph.nodes
        if node.name == "conv2d"
    ]
    octaves = np.log2(factors[0] / factors[1])
    np.testing.assert_allclose(octaves, octaves.round(), atol=1e-9)
    assert octaves.min() >= 0
    assert octaves.max() >= 6


def test_a_seed_gives_one_student_and_another_seed_another(graph: Graph):
    first, again, other = (
        [weights_of(hard.module, node)[0].numpy() for node in hard.module.graph.nodes if node.target in LAYERS]
        for hard in (made_hard(graph, 0), made_hard(graph, 0), made_hard(graph, 1))
    )
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not all(np.array_equal(one, two) for one, two in zip(first, other, strict=True))


def test_the_given_graph_stays_as_it_is(graph: Graph, images: np.ndarray):
    before = [weights_of(graph.module, node)[0].numpy() for node in graph.module.graph.nodes if node.target in LAYERS]
    made_hard(graph, 0)
    after = [weights_of(graph.module, node)[0].numpy() for node in graph.module.graph.nodes if node.target in LAYERS]
    assert all(np.array_equal(one, two) for one, two in zip(before, after, strict=True))


@pytest.mark.parametrize("by_images", [False, True])
def test_equalization_takes_back_most_of_what_was_lost(graph: Graph, images: np.ndarray, by_images: bool):
    true = logits_of(graph, images)
    hard = made_hard(graph, 0, octaves=8)
    right = equalize(hard, images if by_images else None)
    plain, lost, back = (error(simulated_logits(other, minmax(other, images), images), true) for other in (graph, hard, right))
    assert lost > 10 * plain
    assert back < 3 * plain


def test_bias_correction_takes_back_some_of_it(graph: Graph, images: np.ndarray):
    true = logits_of(graph, images)
    hard = made_hard(graph, 0, octaves=6)
    ranges = minmax(hard, images)
    lost, back = (error(simulated_logits(other, ranges, images), true) for other in (hard, correct_bias(hard, ranges, images)))
    assert back < 0.9 * lost


def written(graph: Graph, calibration: np.ndarray, folder: Path, *, corrected: bool) -> Path:
    """Return a static int8 TFLite file of a graph, its biases corrected or not."""
    from edgedistill.convert.tflite_file import write_tflite

    ranges = ranges_of(observe(graph, calibration, histograms=False), "percentile")
    graph = correct_bias(graph, ranges, calibration) if corrected else graph
    fp32, int8 = folder / "fp32.tflite", folder / f"int8-{corrected}.tflite"
    write_tflite(graph, fp32)
    quantize("tflite", "static_int8", Work(graph=graph, fp32=fp32, ranges=ranges, pixels_nhwc=calibration), int8)
    return int8


def answers(path: Path, graph: Graph, pixels_nhwc: np.ndarray) -> np.ndarray:
    """Return the (N,) classes that an int8 file gives for (N, H, W, 3) uint8 RGB images."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (pixels,), (scores,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero_point = pixels["quantization"]
    found = []
    for image in pixels_nhwc:
        value = (image.astype(np.float32) - graph.pixel_mean) / scale + zero_point
        interpreter.set_tensor(pixels["index"], np.round(value)[None].astype(pixels["dtype"]))
        interpreter.invoke()
        found.append(int(interpreter.get_tensor(scores["index"])[0].argmax()))
    return np.array(found)


@pytest.mark.slow
def test_the_shipped_student_made_hard_gets_more_than_half_back_in_its_file(tmp_path: Path):
    from edgedistill.distill import run
    from edgedistill.distill.data import open_splits

    finished = run.load(MODEL)
    student, splits = finished.student, open_splits(finished.recipe.data)
    calibration, test = (model_pixels(list(part), finished.preprocess) for part in (splits.train.balanced(128), splits.test.balanced(500)))
    labels = np.asarray(splits.test.balanced(500).labels)
    graph = prepare(student.module, finished.preprocess, mean=student.mean, std=student.std, classes=len(student.classes))
    hard = made_hard(graph, 0, octaves=7)
    np.testing.assert_array_equal(logits_of(hard, test), logits_of(graph, test))
    true = float((logits_of(graph, test).argmax(1) == labels).mean())
    files = written(hard, calibration, tmp_path, corrected=False), written(equalize(hard), calibration, tmp_path, corrected=True)
    lost, left = (true - float((answers(path, graph, test) == labels).mean()) for path in files)
    assert lost > 0.05
    assert left < 0.5 * lost
