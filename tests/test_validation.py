"""Messages about values that do not fit a struct: path, value, what was expected."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.validation import to_struct


class Leg(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    length: float
    end: Literal["paw", "hoof"] = "paw"


class Animal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    legs: list[Leg] = []
    tail: Leg | None = None
    sizes: tuple[Literal[1, 2], ...] = ()
    extra: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.name == "nobody":
            raise ValueError("an animal needs a name of its own")


def test_a_fitting_tree_becomes_the_struct() -> None:
    tree = {"name": "dog", "legs": [{"length": 1}], "tail": {"length": 0.5, "end": "hoof"}, "extra": {"a": [{"b": 1}]}}
    assert to_struct(tree, Animal) == Animal("dog", [Leg(1.0)], Leg(0.5, "hoof"), extra={"a": [{"b": 1}]})


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"name": 3}, "name = 3: expected `str`, got `int`"),
        ({"name": "x" * 500}, None),
        ({"nmae": "dog"}, "unknown key 'nmae'. Did you mean 'name'? Known here: name, legs, tail, sizes, extra"),
        (
            {"name": "dog", "legs": [{"length": 1}, {"lenght": 1}]},
            "unknown key 'legs[1].lenght'. Did you mean 'length'? Known here: length, end",
        ),
        ({"name": "dog", "tail": {"lngth": 1}}, "unknown key 'tail.lngth'. Did you mean 'length'? Known here: length, end"),
        ({"name": "dog", "legs": [{"length": "long"}]}, "legs[0].length = 'long': expected `float`, got `str`"),
        (
            {"name": "dog", "legs": [{"length": 1, "end": "hof"}]},
            "legs[0].end = 'hof': expected one of 'paw', 'hoof'. Did you mean 'hoof'?",
        ),
        ({"name": "dog", "tail": {"length": 1, "end": "?"}}, "tail.end = '?': expected one of 'paw', 'hoof'."),
        ({"name": "dog", "sizes": [1, 3]}, "sizes[1] = 3: expected one of 1, 2."),
        ({"name": "dog", "legs": {}}, "legs: expected `array`, got `object`"),
        ({"name": "dog", "tail": {}}, "tail: object missing required field `length`"),
        ({}, "the whole: object missing required field `name`"),
        ([], "the whole: expected `object`, got `array`"),
        ({"name": "nobody"}, "the whole: an animal needs a name of its own"),
        ({"name": "dog", "extra": {"a": [0.0, float("-inf")]}}, "extra.a[1] = -inf: expected a finite number"),
        ({"name": "dog", "extra": {"born": date(2026, 1, 2)}}, "extra.born = 2026-01-02: expected no date"),
    ],
)
def test_what_is_said(tree: Any, said: str | None) -> None:
    if said is None:
        assert to_struct(tree, Animal).name == tree["name"]
        return
    with pytest.raises(ValueError, match=r".") as caught:
        to_struct(tree, Animal)
    assert str(caught.value).startswith(said)


def test_long_values_are_shortened() -> None:
    with pytest.raises(ValueError, match=r"legs\[0\]\.length = 'x+\.\.\.x+'") as caught:
        to_struct({"name": "dog", "legs": [{"length": "x" * 10_000}]}, Animal)
    assert len(str(caught.value)) < 150


def test_depth_is_bounded() -> None:
    tree: Any = 1
    for _ in range(5000):
        tree = {"a": tree}
    with pytest.raises(ValueError, match="nested too deeply"):
        to_struct({"name": "dog", "extra": tree}, Animal)


KEYS = st.sampled_from(["name", "legs", "tail", "sizes", "extra", "length", "end"]) | st.text(max_size=5)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.dates() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=10,
)


@given(TREES)
def test_any_tree_becomes_a_struct_or_a_value_error_with_words(tree: Any) -> None:
    try:
        found = to_struct(tree, Animal)
    except ValueError as error:
        words = str(error)
    else:
        words = found.name + "."
    assert words
