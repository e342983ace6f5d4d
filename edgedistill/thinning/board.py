"""A latency on a board, estimated: what is measured here times the ratio of one network's published latency there to its latency here.

The network is MobileNetV2 at 224 in fp32, which is published for every board of devices/. It is an estimate: other networks
are made of other operators, and the published figure is of another engine or version.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import NamedTuple

import msgspec

from edgedistill.convert.audit.target import Reference
from edgedistill.errors import RecipeError
from edgedistill.validation import to_struct

NETWORK, SIDE = "timm:mobilenetv2_100", 224
#: Engines that run the same kernels as LiteRT, best first; others are taken where a board has no figure of these.
ENGINES = ("LiteRT", "TFLite", "XNNPACK")


class _Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of a board's profile; its other keys are for people."""

    board: str
    reference: list[Reference] = []


class Board(NamedTuple):
    """A board and the published latency that estimates rest on."""

    name: str
    reference: Reference

    def factor(self, here_ms: float) -> float:
        """Return how many times longer the board takes, by the reference's latency here."""
        return self.reference.latency_ms / here_ms

    def basis(self, here_ms: float) -> str:
        """Return what an estimate rests on, for people."""
        quoted = self.reference
        return (
            f"latencies on {self.name} are estimates, not measurements: those of this machine times {self.factor(here_ms):.2f}, because "
            f"MobileNetV2 at {SIDE} in fp32 takes {quoted.latency_ms:g} ms there ({quoted.statistic}, {quoted.engine}, threads: "
            f"{quoted.threads}; {quoted.source}) and {here_ms:.2f} ms here"
        )


def read_board(folder: str) -> Board:
    """Return the board of a folder such as devices/rpi4; RecipeError when it has no profile, or none with MobileNetV2."""
    path = Path(folder) / "profile.toml"
    try:
        profile = to_struct(tomllib.loads(path.read_text(encoding="utf-8")), _Profile)
    except OSError as error:
        raise RecipeError(
            f"student.prune.profile: {path} cannot be read ({error.strerror}); give a board's folder: devices/rpi4"
        ) from error
    except ValueError as error:
        raise RecipeError(f"student.prune.profile: {path}: {error}; take a profile of devices/ as a pattern") from error
    fitting = [one for one in profile.reference if one.precision == "fp32" and one.resolution == SIDE and _is_v2(one.model)]
    if not fitting:
        raise RecipeError(
            f"student.prune.profile: {path} has no reference of mobilenet_v2 at {SIDE} in fp32, which estimates rest on; measure on the "
            "board with edgedistill profile, and give the latency that this machine may have, without a profile"
        )
    return Board(profile.board, min(fitting, key=lambda one: _rank(one.engine)))


def _is_v2(model: str) -> bool:
    return model in ("mobilenet_v2", "mobilenet_v2_1.0")


def _rank(engine: str) -> int:
    return next((rank for rank, name in enumerate(ENGINES) if name in engine), len(ENGINES))
