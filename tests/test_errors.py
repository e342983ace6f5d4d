"""The exception tree: what a command returns for each, and the texts that are made here."""

from __future__ import annotations

import inspect
import re

import pytest

from edgedistill import errors
from edgedistill.errors import EdgeDistillError, MissingExtraError, ParityError, SourceError, close_matches

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_is_an_edgedistill_error_of_one_level(kind: type[Exception]) -> None:
    assert kind is EdgeDistillError or kind.__bases__ == (EdgeDistillError,)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_exit_codes_are_1_but_4_for_sources(kind: type[EdgeDistillError]) -> None:
    assert kind.exit_code == (4 if kind is SourceError else 1)


def test_the_docstring_draws_the_whole_tree() -> None:
    drawn = set(re.findall(r"[A-Z]\w+Error", errors.__doc__ or ""))
    assert drawn == {kind.__name__ for kind in ALL}


def test_missing_extra_says_the_exact_install_line() -> None:
    error = MissingExtraError("ai-edge-litert", "litert")
    assert str(error) == "ai-edge-litert is not installed; install it with: pip install 'edgedistill[litert]'"


def test_parity_error_carries_its_table() -> None:
    assert ParityError("int8 lost 3 points", "a table").table == "a table"
    assert ParityError("int8 lost 3 points").table == ""
    assert str(ParityError("int8 lost 3 points", "a table")) == "int8 lost 3 points"


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [
        ("epoch", ["epochs", "lr"], " Did you mean 'epochs'?"),
        ("mobilenetv2_35", ["mobilenetv2_035", "resnet18", "mobilenetv2_050"], " Did you mean 'mobilenetv2_035' or 'mobilenetv2_050'?"),
        ("zzz", ["epochs", "lr"], ""),
        ("epochs", [], ""),
        ("", ["epochs"], ""),
    ],
)
def test_close_matches(word: str, known: list[str], expected: str) -> None:
    assert close_matches(word, known) == expected


def test_close_matches_takes_any_iterable_and_offers_at_most_three() -> None:
    text = close_matches("conv", (f"conv{i}" for i in range(9)))
    assert text.count("'") == 2 * 3
