"""Silence is narrow: it ends with the block, and errors are never part of it."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings

import pytest

from edgedistill.convert.quiet import quietly


@pytest.mark.parametrize("category", [DeprecationWarning, FutureWarning, UserWarning])
def test_warnings_are_silent_inside_and_loud_again_outside(category: type[Warning]) -> None:
    with quietly():
        warnings.warn("third party", category, stacklevel=1)
    with pytest.warns(category, match="own"):
        warnings.warn("own", category, stacklevel=1)


def test_arithmetic_warnings_are_not_silenced() -> None:
    with pytest.raises(RuntimeWarning), quietly():
        warnings.warn("divide by zero", RuntimeWarning, stacklevel=1)


@pytest.mark.parametrize("name", [None, "torch.onnx", "absl"])
def test_loggers_get_their_levels_back_even_after_an_error(name: str | None) -> None:
    logger = logging.getLogger(name)
    before = logger.level
    with contextlib.suppress(ValueError), quietly():
        assert logger.level == logging.ERROR
        raise ValueError("x")
    assert logger.level == before


def test_a_level_that_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with quietly():
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
