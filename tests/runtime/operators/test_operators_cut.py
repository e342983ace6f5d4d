"""Cutting a TFLite file in place, and telling what each cut adds; the multiplications by hand; the profiler's file."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import numpy as np
import pytest
import tiny_bundle
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.errors import EngineError
from edgedistill.runtime.operators import onnx_profiler, prefixes
from edgedistill.runtime.operators.found import timed
from edgedistill.runtime.operators.prefixes import cut, macs, nodes, places, time_each

FILE = (tiny_bundle.DATA / "tiny-fp32.tflite").read_bytes()


def opened(content: bytes) -> Interpreter:
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def test_a_whole_cut_is_the_file_itself() -> None:
    found = nodes(opened(FILE))
    at = places(FILE)
    assert at.operators == len(found) >= 3
    assert cut(FILE, at, operators=len(found), output=found[-1].output) == FILE


def test_each_cut_gives_what_the_whole_network_computes_there() -> None:
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    whole = Interpreter(model_content=FILE, experimental_preserve_all_tensors=True, experimental_op_resolver_type=plain)
    whole.allocate_tensors()
    pixels = np.random.default_rng(0).integers(0, 256, (1, 12, 16, 3)).astype(np.float32)
    found, at = nodes(whole), places(FILE)
    whole.set_tensor(whole.get_input_details()[0]["index"], pixels)
    whole.invoke()
    for count, node in enumerate(found, start=1):
        part = opened(cut(FILE, at, operators=count, output=node.output))
        assert len(nodes(part)) == count
        part.set_tensor(part.get_input_details()[0]["index"], pixels)
        part.invoke()
        np.testing.assert_allclose(part.get_tensor(node.output), whole.get_tensor(node.output), rtol=1e-4, atol=1e-3)


@given(st.binary(max_size=200))
def test_what_is_no_file_is_refused(content: bytes) -> None:
    with pytest.raises(EngineError):
        places(content)


def test_a_file_that_ends_within_the_output_s_number_is_refused() -> None:
    """The graph's list of outputs lies before the rest that is needed, in a file that was put together so."""
    at = places(FILE)
    moved = FILE + b"\x01\0\0\0" + b"\0\0"  # one output, whose number is cut short
    pointer = next(place for place in range(len(FILE) - 4) if place + int.from_bytes(FILE[place : place + 4], "little") == at.output - 4)
    data = bytearray(moved)
    data[pointer : pointer + 4] = (len(FILE) - pointer).to_bytes(4, "little")
    with pytest.raises(EngineError, match="the file is no TFLite file"):
        places(bytes(data))


@given(st.integers(0, len(FILE) - 1), st.integers(0, 255))
def test_a_damaged_file_is_cut_or_refused(position: int, value: int) -> None:
    damaged = bytearray(FILE)
    damaged[position] = value
    try:
        at = places(bytes(damaged))
    except EngineError:
        return
    assert len(cut(bytes(damaged), at, operators=1, output=0)) == len(FILE)


def tensor(*shape: int) -> dict[str, object]:
    return {"shape": np.array(shape)}


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "expected"),
    [
        ("CONV_2D", [(1, 8, 8, 3), (16, 3, 3, 3)], (1, 4, 4, 16), 4 * 4 * 16 * 27),
        ("DEPTHWISE_CONV_2D", [(1, 8, 8, 16), (1, 3, 3, 16)], (1, 8, 8, 16), 8 * 8 * 16 * 9),
        ("FULLY_CONNECTED", [(1, 64), (10, 64)], (1, 10), 640),
        ("TRANSPOSE_CONV", [(4,), (5, 2, 2, 3), (1, 4, 4, 3)], (1, 8, 8, 5), 4 * 4 * 3 * 5 * 4),
        ("BATCH_MATMUL", [(1, 7, 5), (1, 5, 2)], (1, 7, 2), 70),
        ("ADD", [(1, 8, 8, 3), (1, 8, 8, 3)], (1, 8, 8, 3), 0),
    ],
)
def test_multiplications(kind: str, inputs: list[tuple[int, ...]], output: tuple[int, ...], expected: int) -> None:
    assert macs(kind, [tensor(*shape) for shape in inputs], [tensor(*output)]) == expected


class Clock:
    """Nanoseconds that only pass when a network runs."""

    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def network(self, *costs_ms: float) -> Callable[[], Callable[[], None]]:
        """Return what opens a network that costs this, in turn."""
        costs = itertools.cycle(costs_ms)

        def run() -> None:
            self.now_ns += round(next(costs) * 1e6)

        return lambda: run


def test_each_operator_is_what_its_prefix_takes_longer() -> None:
    clock = Clock()
    found = time_each([clock.network(ms) for ms in (2.0, 2.5, 6.5, 6.5)], seconds=1.0, most=9, clock=clock)
    assert [round(one.ms, 6) for one in found] == [2.0, 0.5, 4.0, 0.0]
    assert [one.noise_ms for one in found] == [0.0] * 4


@pytest.mark.parametrize(("seconds", "most", "runs"), [(0.0, 50, 5), (1.0, 8, 8), (0.011, 50, 11), (1.0, 2, 5)])
def test_how_often_a_pair_runs(seconds: float, most: int, runs: int) -> None:
    clock, opened_runs = Clock(), []

    def network() -> Callable[[], None]:
        def run() -> None:
            opened_runs.append(clock.now_ns)
            clock.now_ns += 1_000_000

        return run

    time_each([network], seconds=seconds, most=most, clock=clock)
    assert len(opened_runs) == runs + 1  # the first only warms up


def test_a_cheap_operator_in_noise_has_a_wide_error() -> None:
    steady, noisy = timed([1.0] * 20), timed([0.0, 2.0] * 10)
    assert (steady.ms, steady.noise_ms) == (1.0, 0.0)
    assert noisy.ms == 1.0
    assert noisy.noise_ms == pytest.approx(1.253 * 2 / 1.349 / 20**0.5)
    assert timed([1.0] * 19 + [900.0]) == steady


def event(name: str, ms: float, index: int = 0, **more: object) -> dict[str, object]:
    args = {"op_name": "Conv", "node_index": str(index), "activation_size": "10", "parameter_size": "4", "output_size": "6"}
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": ms * 1e3, "args": {**args, **more}}


def test_the_profilers_events_become_operators_in_their_order() -> None:
    events = [
        {"cat": "Session", "name": "model_run", "dur": 9},
        event("b", 5.0),
        event("a", 1.0, 1, op_name="Relu", output_size="unknown"),
        {"cat": "Node", "name": "b_fence_before", "dur": 1, "args": {}},
        event("b", 2.0),
        event("a", 3.0, 1, op_name="Relu", output_size="unknown"),
        event("b", 4.0),
        event("a", 5.0, 1, op_name="Relu", output_size="unknown"),
        event("b", 7.0, 2),
    ]
    found = onnx_profiler.kernels(json.dumps(events), runs=2)
    assert [tuple(one) for one in found] == [
        ("b", "Conv", (2.0, 4.0), 20),
        ("a", "Relu", (3.0, 5.0), None),
        ("b", "Conv", (7.0,), 20),
    ]


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "[1]", '[{"cat": "Node", "name": "x_kernel_time"}]', json.dumps([event("x", 1) | {"args": 3}])]
)
def test_a_profile_that_cannot_be_read_says_so(text: str) -> None:
    with pytest.raises(EngineError, match="onnxruntime's profile"):
        onnx_profiler.kernels(text, runs=1)


def test_the_tiny_networks_operators_have_names_and_kinds() -> None:
    found = prefixes.nodes(opened(FILE))
    assert all(node.name and node.type.isupper() for node in found)
    assert len({node.output for node in found}) == len(found)
