"""What files are to be fast on, and what has been published about int8 there.

Nothing is measured here: ratios are quotations and carry their source.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from edgedistill.convert.audit.machine import Machine
from edgedistill.errors import ConvertError
from edgedistill.validation import to_struct

#: What a profile calls int8 dot products: the architecture they belong to.
_DOT_PRODUCTS = {"sdot": "aarch64", "udot": "aarch64", "smmla": "aarch64", "ummla": "aarch64", "usdot": "aarch64", "vpdpbusd": "x86_64"}
_TO_ARM = "The number of parts is the same there: it depends on the operators, not on the CPU."


class Quote(NamedTuple):
    """A published pair of latencies of one network."""

    network: str
    device: str
    fp32_ms: float
    int8_ms: float
    source: str

    def __str__(self) -> str:
        ratio = self.int8_ms / self.fp32_ms
        return (
            f"{self.network} int8 takes {ratio:.2f} of fp32's time on {self.device} "
            f"({self.int8_ms:g} against {self.fp32_ms:g} ms; {self.source})"
        )


#: 64-bit ARM with and without dot products, where no board is named.
WITH_DOT_PRODUCTS = (
    Quote("MobileNetV2", "a Raspberry Pi 5", 10.89, 4.01, "ExecuTorch XNNPACK, learn.arm.com, executorch-on-arm, 2026"),
    Quote("MobileNetV3-small", "a vivo X300", 5.82, 3.05, "LiteRT, Arm's cards at huggingface.co/Arm, 2026"),
)
WITHOUT_DOT_PRODUCTS = (
    Quote("MobileNetV2", "a Raspberry Pi 4 (Cortex-A72)", 46.0, 17.0, "XNNPACK alone, google/XNNPACK README, 2022"),
    Quote("MobileNetV2", "a Raspberry Pi 3B+ (Cortex-A53)", 79.0, 30.0, "XNNPACK alone, google/XNNPACK README, 2022"),
)


class Target(NamedTuple):
    """What files are to be fast on; `architecture` is None for this machine itself."""

    name: str
    architecture: str | None
    dot_products: bool
    quotes: tuple[Quote, ...] = ()

    def is_like(self, machine: Machine) -> bool:
        """Return whether a ratio measured on the machine holds for the target: the same architecture, int8 dot products as there."""
        return self.architecture is None or (machine.architecture == self.architecture and bool(machine.int8) == self.dot_products)

    def known(self, machine: Machine) -> str:
        """Return what is known of int8 on the target that the machine cannot show; empty where the machine shows it."""
        if self.is_like(machine):
            return ""
        have = "has int8 dot products (dotprod; i8mm adds matrix products)" if self.dot_products else "has no int8 dot products"
        if self.architecture == "x86_64":
            have = "is x86-64 with VNNI" if self.dot_products else "is x86-64 without VNNI"
        quoted = "; ".join(str(quote) for quote in self.quotes)
        return f"{self.name} {have}, which this machine cannot show. Published: {quoted}. {_TO_ARM}"


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """A published latency, as a board's profile quotes it."""

    device: str
    model: str
    resolution: int
    precision: str
    engine: str
    threads: int | str
    latency_ms: float
    source: str
    statistic: str = "not said"


class _Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of a board's profile; its other keys are for people."""

    board: str
    architectures: list[str]
    int8_instructions: list[str]
    reference: list[Reference] = []


def read_target(text: str) -> Target:
    """Return a target by its name.

    Args:
        text: `arm` (64-bit, with dot products), `here`, or a folder with a board's profile.toml such as devices/rpi4.

    Raises ConvertError for anything else.
    """
    if text == "here":
        return Target("this machine", None, dot_products=False)
    if text == "arm":
        return Target("64-bit ARM with dot products", "aarch64", dot_products=True, quotes=WITH_DOT_PRODUCTS)
    return _of_board(_read_profile(Path(text)))


def _read_profile(folder: Path) -> _Profile:
    path = folder / "profile.toml"
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return to_struct(raw, _Profile)
    except OSError as error:
        raise ConvertError(
            f"export.target is {str(folder)!r}, which is no board: {path} cannot be read ({error.strerror}); "
            "give arm, here, or a board's folder such as devices/rpi4"
        ) from error
    except ValueError as error:
        raise ConvertError(f"{path}: {error}; take a profile of devices/ as a pattern") from error


def _of_board(profile: _Profile) -> Target:
    words = " ".join(profile.int8_instructions).lower()
    dot_products = {architecture for word, architecture in _DOT_PRODUCTS.items() if word in words}
    architecture = next((name for name in profile.architectures if name in dot_products), profile.architectures[0])
    fallback = WITH_DOT_PRODUCTS if dot_products else WITHOUT_DOT_PRODUCTS
    return Target(profile.board, architecture, dot_products=bool(dot_products), quotes=_quotes(profile.reference) or fallback)


def _quotes(references: list[Reference]) -> tuple[Quote, ...]:
    """Return the pairs of references that differ in nothing but the precision."""
    int8 = {(r.device, r.model, r.resolution, r.engine, r.threads): r for r in references if r.precision == "int8"}
    pairs = [(r, int8.get((r.device, r.model, r.resolution, r.engine, r.threads))) for r in references if r.precision == "fp32"]
    return tuple(
        Quote(plain.model, plain.device, plain.latency_ms, small.latency_ms, f"{plain.engine}, {plain.source}")
        for plain, small in pairs
        if small is not None
    )
