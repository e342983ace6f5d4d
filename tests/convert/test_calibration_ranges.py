"""Ranges worked out by hand, against a search without shortcuts, and the rules that operators set."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgedistill.bundle import Preprocess
from edgedistill.convert.calibration import Range, Statistics, ranges_of
from edgedistill.convert.calibration.observe import BINS, Values
from edgedistill.convert.calibration.rules import EVERYTHING, Rule, rules_of
from edgedistill.convert.graph import Graph, prepare
from edgedistill.convert.graph.rewrite import aten
from edgedistill.errors import ConvertError


def observed(values: np.ndarray) -> Statistics:
    """Return statistics of one node, of (N, ...) values."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    low, high = min(flat.min(), 0.0), max(flat.max(), 0.0)
    below = np.histogram(-flat[flat < 0], BINS, (0, -low))[0] if low else np.zeros(BINS, np.int64)
    above = np.histogram(flat[flat > 0], BINS, (0, high))[0] if high else np.zeros(BINS, np.int64)
    item = Values(lows=flat.min(1), highs=flat.max(1), below=below, above=above)
    return Statistics(values={"x": item}, rules={"x": Rule()}, images=len(values), images_sha256="0" * 64)


def range_of(values: np.ndarray, method) -> Range:
    return ranges_of(observed(np.asarray(values, np.float64)), method)["x"]


@pytest.mark.parametrize(
    ("values", "method", "expected"),
    [
        ([[-1, 2], [-3, 1]], "minmax", (-3, 2)),
        ([[1, 2], [3, 4]], "minmax", (0, 4)),
        ([[-1, -2], [-3, -4]], "minmax", (-4, 0)),
        # The 0.5th percentile of -3 and -1 lies at 0.5 % of the way between them, the 99.5th of 1 and 2 at 99.5 %.
        ([[-1, 2], [-3, 1]], "percentile", (-2.99, 1.995)),
        ([[1, 2], [3, 4]], "percentile", (0, 3.99)),
        ([[0, 0], [0, 0]], "minmax", (0, 1)),
        ([[0, 0], [0, 0]], "percentile", (0, 1)),
        ([[0, 0], [0, 0]], "mse", (0, 1)),
        ([[0, 1e-9], [0, 0]], "minmax", (0, 1)),
    ],
)
def test_ranges_by_hand(values, method, expected) -> None:
    assert range_of(values, method) == pytest.approx(expected)


def test_percentile_leaves_out_one_extreme_image_among_many() -> None:
    values = np.tile([-1.0, 1.0], (400, 1))
    values[7] = -50, 90
    assert range_of(values, "percentile") == (-1, 1)
    assert range_of(values, "minmax") == (-50, 90)


def squared_error(values: np.ndarray, low: float, high: float) -> float:
    """Return what storing values in 8 bits costs, by storing them."""
    scale = (high - low) / 255
    zero = round(-low / scale)
    stored = np.clip(np.rint(values / scale) + zero, 0, 255)
    return float((((stored - zero) * scale - values) ** 2).sum())


def test_mse_clips_an_outlier_that_costs_the_others_their_resolution() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 20_000))
    values[0, 0] = 40
    low, high = range_of(values, "mse")
    assert high < 20
    assert low < -3
    assert squared_error(values, low, high) < squared_error(values, *range_of(values, "minmax"))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 4), st.booleans())
def test_mse_is_as_good_as_the_best_of_all_ranges(seed: int, heaviness: float, rectified: bool) -> None:
    rng = np.random.default_rng(seed)
    # So many that the luck of rounding, of which the best of 625 ranges has more than one range, stays under 5 %: of 2,000 it is up to 9 %.
    number = 20_000
    values = np.sign(rng.normal(size=number)) * np.abs(rng.normal(size=number)) ** heaviness
    values = np.maximum(values, 0) if rectified else values
    lowest, highest = values.min(), values.max()
    parts = np.linspace(0.04, 1, 25)
    lows = [0.0] if rectified else lowest * parts
    best = min(squared_error(values, low, high) for low in lows for high in highest * parts)
    assert squared_error(values, *range_of(values[None], "mse")) <= best * 1.05


def test_values_without_outliers_keep_all_of_their_range() -> None:
    low, high = range_of(np.linspace(-2, 6, 100_000)[None], "mse")
    assert (low, high) == pytest.approx((-2, 6), abs=0.05)


def test_zeros_cost_nothing_wherever_the_range_ends() -> None:
    values = np.random.default_rng(1).normal(size=(10, 500))
    with_zeros = np.concatenate([values, np.zeros((10, 100_000))], axis=1)
    assert range_of(with_zeros, "mse") == range_of(values, "mse")


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), min_size=1, max_size=20))
def test_every_range_has_0_in_it_and_is_not_empty(method, values) -> None:
    low, high = range_of(values, method)
    assert low <= 0 <= high
    assert low < high
    assert math.isfinite(high - low)


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
def test_what_is_fixed_and_what_is_like_another_needs_no_values(method) -> None:
    seen = observed(np.array([[-9.0, 9.0]]))
    rules = {"pixels": Rule(fixed=Range(-128, 127)), "moved": Rule(like="pixels"), "padded": Rule(like="moved"), "x": Rule()}
    found = ranges_of(Statistics(values=seen.values, rules=rules, images=1, images_sha256=""), method)
    assert list(found) == list(rules)
    assert found["pixels"] == found["moved"] == found["padded"] == (-128, 127)
    assert found["x"] == pytest.approx((-9, 9), abs=0.2)


def test_an_unknown_method_is_named_with_those_that_are_known() -> None:
    with pytest.raises(ConvertError, match=r"no method 'entropy', known are minmax, percentile, mse"):
        ranges_of(observed(np.ones((1, 1))), "entropy")  # type: ignore[arg-type]


def test_mse_without_histograms_says_what_it_needs() -> None:
    item = Values(lows=np.array([-1.0]), highs=np.array([1.0]))
    with pytest.raises(ConvertError, match=r"histograms=True"):
        ranges_of(Statistics(values={"x": item}, rules={"x": Rule()}, images=1, images_sha256=""), "mse")


class Everything(nn.Module):
    """One of each kind of operator that has a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d, self.e = (nn.Conv2d(i, 4, 1) for i in (3, 4, 4, 4, 4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu6(self.a(x))
        x = nn.functional.hardswish(self.b(nn.functional.max_pool2d(x, 2)))
        x = torch.relu(self.c(x))
        y = self.d(x)
        y = torch.sigmoid(y) + y.clone()
        z = nn.functional.hardtanh(self.e(y), -2.0, 4.0)
        z = nn.functional.pad(z, (1, 0, 1, 0))
        return self.head(z.mean((2, 3)).unsqueeze(2).squeeze(2))


@pytest.fixture(scope="module")
def graph() -> Graph:
    spec = Preprocess(height=8, width=8)
    return prepare(Everything().eval(), spec, mean=(0.5, 0.4, 0.3), std=(0.25, 0.25, 0.25), classes=2)


@pytest.fixture(scope="module")
def rules(graph: Graph) -> dict[str, Rule]:
    """Return the rules by the operator's name and its place among those of its kind."""
    names = {node.name: str(node.target).split(".")[-2] for node in graph.module.graph.nodes if node.op == "call_function"}
    found: dict[str, Rule] = {}
    for name, rule in rules_of(graph).items():
        kind = names.get(name, "input")
        found[f"{kind} {sum(key.startswith(f'{kind} ') for key in found)}"] = rule
    return found


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("input 0", Rule(fixed=Range(-102, 153))),
        ("relu6 0", Rule(bounds=Range(0, 6))),
        ("conv2d 0", Rule(bounds=Range(0, 6))),
        # Below -3 hard-swish gives 0, whatever it is.
        ("conv2d 1", Rule(bounds=Range(-3, math.inf))),
        ("conv2d 2", Rule(bounds=Range(0, math.inf))),
        ("relu 0", Rule(bounds=Range(0, math.inf))),
        # Read by an addition, too.
        ("conv2d 3", Rule(bounds=EVERYTHING)),
        ("sigmoid 0", Rule(fixed=Range(0, 255 / 256))),
        ("conv2d 4", Rule(bounds=Range(-2, 4))),
        ("hardtanh 0", Rule(bounds=Range(-2, 4))),
        ("mean 0", Rule(bounds=EVERYTHING)),
        ("linear 0", Rule(bounds=EVERYTHING)),
    ],
)
def test_rules_of_operators(rules: dict[str, Rule], node: str, expected: Rule) -> None:
    assert rules[node] == expected


def test_what_only_moves_values_is_like_its_input(graph: Graph) -> None:
    rules = rules_of(graph)
    moved = {str(node.target).split(".")[-2]: node for node in graph.module.graph.nodes if rules.get(node.name, Rule()).like}
    assert {"max_pool2d", "permute", "unsqueeze"} <= set(moved)
    assert {"constant_pad_nd", "pad"} & set(moved)
    assert all(rules[node.name].like == node.args[0].name for node in moved.values())


def test_the_constant_channel_is_like_the_input(graph: Graph) -> None:
    pads = [node for node in graph.module.graph.nodes if node.op == "call_function" and node.args[1:] == ([0, 1], 153.0)]
    assert len(pads) == 1
    assert rules_of(graph)[pads[0].name] == Rule(like=pads[0].args[0].name)
    assert pads[0].args[0].op == "placeholder"


@pytest.mark.parametrize(("value", "is_like"), [(0.0, True), (153.0, True), (-102.0, True), (153.5, False), (-103.0, False)])
def test_padding_with_what_the_input_cannot_have_is_not_like_it(value: float, is_like: bool) -> None:
    class Padded(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.pad(x, (1, 1), value=value).flatten(1)[:, :2]

    module = torch.fx.symbolic_trace(Padded())
    for node in module.graph.nodes:
        if node.target is nn.functional.pad or "pad" in str(node.target):
            node.target, node.args, node.kwargs = aten.constant_pad_nd.default, (node.args[0], [1, 1], value), {}
    graph = Graph(module=module, spec=Preprocess(height=4, width=4), pixel_mean=102, classes=2, layers={}, folded=True)
    found = next(rule for name, rule in rules_of(graph).items() if "pad" in name)
    assert (found.like == "x") is is_like
