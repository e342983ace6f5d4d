"""The table and the picture: the costliest first, ten of them, and always what the figures are."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedistill.errors import OutputError
from edgedistill.runtime.operators import METHODS, Found, Operator, as_text, draw, top, write_picture
from edgedistill.runtime.operators.show import BAR, BAR_LEFT, adds_up, short_name

TIMED = Found(
    "net.tflite",
    "litert",
    2,
    "prefixes",
    50,
    7.0,
    tuple(Operator(f"block/{n}/conv", "CONV_2D", n / 66, n / 10, 0.01, n * 1_000_000, n * 1000) for n in range(12)),
)
COUNTED = TIMED._replace(method="counted", total_ms=None, operators=tuple(one._replace(ms=None, noise_ms=None) for one in TIMED.operators))


def test_the_ten_costliest_come_first() -> None:
    assert [operator.macs for operator in top(TIMED)] == [n * 1_000_000 for n in range(11, 1, -1)]
    assert len(top(TIMED, 3)) == 3
    lines = as_text(TIMED).splitlines()
    assert lines[1].split() == ["16.7%", "1.100", "0.010", "11.00", "M", "11", "CONV_2D", "block/11/conv"]
    assert len(lines) == 1 + 10 + 2


@pytest.mark.parametrize(
    ("found", "whole"), [(TIMED, "; one invoke takes 7.000 ms, all operators measured one by one 6.600 ms"), (COUNTED, "")]
)
def test_the_text_says_what_the_figures_are(found: Found, whole: str) -> None:
    text = as_text(found)
    assert METHODS[found.method] in text
    assert f"10 of 12 operators of net.tflite, 98% of the whole{whole}\n" in text


def test_what_is_unknown_is_a_dash() -> None:
    nothing = TIMED._replace(operators=(Operator("x", "Conv", 1.0, None, None, None, None),))
    assert as_text(nothing).splitlines()[1].split() == ["100.0%", "-", "-", "-", "-", "Conv", "x"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.b.Model_network/torch.nn.Sequential_blocks/timm.Block_0/timm.Conv_conv_pw;2", "network/blocks/0/conv_pw"),
        ("x.First_act;;a.b.Model_network/x.Conv_conv;1", "network/conv"),
        ("blocks.1.0.conv_pw/Conv_token_9", "blocks.1.0.conv_pw/Conv_token_9"),
        ("Pad", "Pad"),
        ("a.b._Normalized;", "a.b._Normalized"),
        ("", ""),
    ],
)
def test_short_names(name: str, expected: str) -> None:
    assert short_name(name) == expected


def bar_lengths(image_bgr: np.ndarray) -> list[int]:
    """Return how long the coloured bars are, from top to bottom."""
    rows = (image_bgr == BAR).all(axis=2).sum(axis=1)
    starts = np.flatnonzero((rows[1:] > 0) & (rows[:-1] == 0)) + 1
    return [int(rows[start]) for start in starts]


@pytest.mark.parametrize("found", [TIMED, COUNTED])
def test_bars_are_as_long_as_the_shares(found: Found) -> None:
    image_bgr = draw(found)
    lengths = bar_lengths(image_bgr)
    assert image_bgr.dtype == np.uint8
    assert lengths == sorted(lengths, reverse=True)
    assert len(lengths) == 10
    assert lengths[1] / lengths[0] == pytest.approx(10 / 11, abs=0.02)
    assert (image_bgr[:, :4] == 255).all()


@pytest.mark.parametrize(
    ("found", "total_ms", "sure"), [(TIMED, 6.6, True), (TIMED, 5.2, True), (TIMED, 5.0, False), (TIMED, 9.9, False), (COUNTED, None, True)]
)
def test_operators_that_do_not_add_up_to_the_whole_are_told_so(found: Found, total_ms: float | None, sure: bool) -> None:
    found = found._replace(total_ms=total_ms)
    assert ("these do not add up" in as_text(found)) != sure
    assert adds_up(found) == sure
    blue, _, red = np.moveaxis(draw(found)[74:96].astype(int), 2, 0)
    assert (red - blue).max() > 50 or sure
    assert (red - blue).max() < 10 or not sure
    assert "these do not add up" not in as_text(found._replace(method="profiler")), "its own time is in it, as its text says"


def test_long_names_stay_left_of_the_bars() -> None:
    long = Operator("a/" * 200, "CUSTOM_" * 30, 1.0, 1.0, 0.1, None, None)
    image_bgr = draw(TIMED._replace(operators=(long,)))
    assert (image_bgr[100:, BAR_LEFT - 9 : BAR_LEFT] == 255).all()


def test_a_network_without_operators_has_a_picture_too() -> None:
    assert draw(TIMED._replace(operators=())).shape[1] == 1000


def test_the_picture_is_a_file(tmp_path: Path) -> None:
    write_picture(TIMED, tmp_path / "operators.png")
    assert np.array_equal(cv2.imread(str(tmp_path / "operators.png")), draw(TIMED))


def test_the_picture_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "operators.png").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_picture(TIMED, tmp_path / "operators.png")
    assert [file.name for file in tmp_path.iterdir()] == ["operators.png"]
    assert (tmp_path / "operators.png").read_bytes() == b"old"


@pytest.mark.parametrize("name", ["missing/operators.png", "operators.nothing", "operators"])
def test_a_picture_that_cannot_be_written_says_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_picture(TIMED, tmp_path / name)
