"""What a board's firmware says, from made-up kernel files and a made-up vcgencmd."""

from __future__ import annotations

from pathlib import Path

import pytest
from tree import write

from edgedistill.runtime import firmware
from edgedistill.runtime.firmware import ask, read_number, read_text, throttled

PI4 = "sys/devices/platform/soc/soc:firmware/get_throttled"
PI5 = "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"
FREQUENCIES = "sys/devices/system/cpu/cpu0/cpufreq"


def program(root: Path, script: str, *, name: str = "usr/bin/vcgencmd") -> Path:
    """Write a program that stands for vcgencmd."""
    write(root, {name: f"#!/bin/sh\n{script}\n"})
    (root / name).chmod(0o755)
    return root


@pytest.mark.parametrize("name", [PI4, PI5, "sys/devices/platform/soc:firmware/get_throttled"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", []),
        ("0x0\n", []),
        ("1", ["under-voltage now"]),
        ("a", ["frequency capped now", "soft temperature limit now"]),
        ("0xA0000", ["frequency capped since start", "soft temperature limit since start"]),
        ("nonsense", None),
        ("", None),
    ],
)
def test_the_kernels_file_is_read(tmp_path: Path, name: str, text: str, expected: list[str] | None) -> None:
    assert throttled(write(tmp_path, {name: text})) == expected


@pytest.mark.parametrize("name", firmware.PROGRAMS)
def test_without_the_file_the_program_is_asked(tmp_path: Path, name: str) -> None:
    program(tmp_path, 'test "$*" = get_throttled && echo throttled=0x50005', name=name)
    assert throttled(tmp_path) == ["under-voltage now", "throttled now", "under-voltage since start", "throttled since start"]


def test_with_the_file_the_program_is_not_asked(tmp_path: Path) -> None:
    write(program(tmp_path, "echo throttled=0x1"), {PI4: "4"})
    assert throttled(tmp_path) == ["throttled now"]


@pytest.mark.parametrize(
    "script", ["echo VCHI initialization failed; exit 255", "echo throttled=zero", "printf '\\377\\376'", "exit 0", "kill -9 $$"]
)
def test_a_program_that_fails_or_answers_nonsense_says_nothing(tmp_path: Path, script: str) -> None:
    assert throttled(program(tmp_path, script)) is None


def test_a_program_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firmware, "TIMEOUT_S", 0.05)
    assert ask(program(tmp_path, "exec sleep 20"), "get_throttled") is None


def test_a_program_that_may_not_be_run_says_nothing(tmp_path: Path) -> None:
    program(tmp_path, "echo throttled=0x1")
    (tmp_path / "usr/bin/vcgencmd").write_bytes(b"\0not a program")
    assert ask(tmp_path, "get_throttled") is None


def test_the_program_gets_all_words_and_its_answer_is_stripped(tmp_path: Path) -> None:
    assert ask(program(tmp_path, 'echo "  $2,$1 "'), "a", "b") == "b,a"


@pytest.mark.parametrize(
    ("highest", "allowed", "expected"),
    [("2400000", "2400000", []), ("2400000", "1500000", ["frequency capped now"]), ("2400000", "", None), ("", "1500000", None)],
)
def test_elsewhere_the_kernels_cap_is_told(tmp_path: Path, highest: str, allowed: str, expected: list[str] | None) -> None:
    write(tmp_path, {f"{FREQUENCIES}/cpuinfo_max_freq": highest, f"{FREQUENCIES}/scaling_max_freq": allowed})
    assert throttled(tmp_path) == expected


def test_a_machine_that_shows_nothing(tmp_path: Path) -> None:
    assert throttled(tmp_path) is None
    assert ask(tmp_path, "get_throttled") is None


@pytest.mark.parametrize(("content", "text", "number"), [("12\n", "12", 12), ("-3", "-3", -3), ("1.5", "1.5", None), ("", "", None)])
def test_reading_a_file_of_the_kernel(tmp_path: Path, content: str, text: str, number: int | None) -> None:
    (tmp_path / "file").write_text(content)
    assert (read_text(tmp_path / "file"), read_number(tmp_path / "file")) == (text, number)
    assert (read_text(tmp_path / "missing"), read_number(tmp_path)) == (None, None)
