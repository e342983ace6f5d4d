"""Targets: by word and by board, what holds for them of a measurement here, and what is quoted where it does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgedistill.convert.audit.machine import Machine
from edgedistill.convert.audit.target import WITH_DOT_PRODUCTS, WITHOUT_DOT_PRODUCTS, Quote, read_target
from edgedistill.errors import ConvertError

DEVICES = Path(__file__).parents[2] / "devices"
AVX2 = Machine("AMD EPYC", "x86_64", "AVX2", ())
VNNI = Machine("i5", "x86_64", "AVX2", ("AVX-VNNI",))
A72 = Machine("Pi 4", "aarch64", "NEON", ())
A76 = Machine("Pi 5", "aarch64", "NEON", ("NEON dotprod",))
MACHINES = {"AVX2": AVX2, "VNNI": VNNI, "A72": A72, "A76": A76}


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("here", {"AVX2", "VNNI", "A72", "A76"}),
        ("arm", {"A76"}),
        ("rpi5", {"A76"}),
        ("android", {"A76"}),
        ("rpi4", {"A72"}),
        ("rpi-zero2w", {"A72"}),
        ("laptop", {"VNNI"}),
    ],
)
def test_on_which_machines_a_target_s_ratio_can_be_measured(name: str, like: set[str]) -> None:
    target = read_target(name if name in ("here", "arm") else str(DEVICES / name))
    assert {key for key, machine in MACHINES.items() if target.is_like(machine)} == like


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("arm", "MobileNetV2 int8 takes 0.37 of fp32's time on a Raspberry Pi 5 (4.01 against 10.89 ms; ExecuTorch"),
        ("rpi5", "mobilenet_v2_1.0 int8 takes 0.37 of fp32's time on Raspberry Pi (5 by context) (4.01 against 10.89 ms"),
        ("rpi4", "mobilenet_v2 int8 takes 0.37 of fp32's time on RPi 4 (BCM2711) ARM64 (17 against 46 ms; XNNPACK, google/XNNPACK"),
        ("rpi-zero2w", "MobileNetV2 int8 takes 0.38 of fp32's time on a Raspberry Pi 3B+ (Cortex-A53) (30 against 79 ms"),
        ("android", "mobilenet_v3_small int8 takes 0.52 of fp32's time on vivo X300"),
    ],
)
def test_what_is_known_is_quoted_with_its_source(name: str, said: str) -> None:
    known = read_target(name if name == "arm" else str(DEVICES / name)).known(AVX2)
    assert said in known
    assert "which this machine cannot show" in known
    assert known.endswith("it depends on the operators, not on the CPU.")


@pytest.mark.parametrize(
    ("name", "said"), [("rpi4", "has no int8 dot products"), ("rpi5", "has int8 dot products"), ("laptop", "is x86-64 with VNNI")]
)
def test_the_target_s_instructions_are_said(name: str, said: str) -> None:
    assert said in read_target(str(DEVICES / name)).known(AVX2)


def test_where_the_machine_is_like_the_target_nothing_needs_quoting() -> None:
    assert read_target("here").known(AVX2) == ""
    assert read_target("arm").known(A76) == ""
    assert read_target(str(DEVICES / "rpi4")).known(A72) == ""


@pytest.mark.parametrize("quote", [*WITH_DOT_PRODUCTS, *WITHOUT_DOT_PRODUCTS])
def test_every_quote_has_a_source_with_a_year_and_is_faster_in_8_bits(quote: Quote) -> None:
    assert re.search(r"20\d\d", quote.source)
    assert quote.int8_ms < quote.fp32_ms


@pytest.mark.parametrize("name", ["desk", "devices/none", "arm64"])
def test_what_is_no_target_is_refused_with_what_is(name: str) -> None:
    with pytest.raises(ConvertError, match=r"give arm, here, or a board's folder such as devices/rpi4") as caught:
        read_target(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("board = 3", "board"),
        ("board = [", "profile.toml"),
        ('board = "x"\narchitectures = ["aarch64"]', "int8_instructions"),
    ],
)
def test_a_broken_profile_says_where(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "profile.toml").write_text(text)
    with pytest.raises(ConvertError, match=said):
        read_target(str(tmp_path))


def test_only_pairs_that_differ_in_nothing_else_are_quoted(tmp_path: Path) -> None:
    rows = [
        ("a", "fp32", 1, 10.0),
        ("a", "int8", 4, 2.0),
        ("b", "fp32", 1, 8.0),
        ("b", "int8", 1, 4.0),
        ("c", "fp16", 1, 9.0),
        ("c", "int8", 1, 1.0),
    ]
    text = 'board = "x"\narchitectures = ["aarch64"]\nint8_instructions = ["sdot"]\n' + "".join(
        f'[[reference]]\ndevice = "d"\nmodel = "{model}"\nresolution = 224\nprecision = "{precision}"\nengine = "e"\nthreads = {threads}\n'
        f'latency_ms = {ms}\nstatistic = "mean"\nsource = "s"\n'
        for model, precision, threads, ms in rows
    )
    (tmp_path / "profile.toml").write_text(text)
    assert read_target(str(tmp_path)).quotes == (Quote("b", "d", 8.0, 4.0, "e, s"),)
