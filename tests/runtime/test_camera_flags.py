"""The flags of `camera`: what they become, what is refused, and that each has a help text."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.errors import OutputError
from edgedistill.runtime.__main__ import parser
from edgedistill.runtime.camera_command import CameraOptions
from edgedistill.runtime.camera_flags import byte_count, fraction, options_of, positive_float, positive_int, seconds
from edgedistill.runtime.recording import RecordOptions


def options(*arguments: str) -> CameraOptions:
    return options_of(parser().parse_args(["camera", "bundle", *arguments]))


def test_without_flags_all_is_off_but_the_first_camera() -> None:
    assert options() == CameraOptions()


@pytest.mark.parametrize(
    ("arguments", "field", "expected"),
    [
        (["--source", "a.mp4"], "sources", ("a.mp4",)),
        (["--source", "0", "--source", "usb:AB12"], "sources", ("0", "usb:AB12")),
        (["--wait"], "wait", True),
        (["--output", "csv"], "output", "csv"),
        (["--frames", "3"], "loop.frames", 3),
        (["--duration", "1.5"], "loop.duration_s", 1.5),
        (["--rotate", "90", "--flip", "both"], "wishes.rotate", 90),
        (["--width", "320", "--height", "240", "--fps", "15"], "wishes.fps", 15.0),
        (["--roi", "0.25,0,0.5,1"], "wishes.roi", (0.25, 0, 0.5, 1)),
        (["--record", "events"], "record.folder", Path("events")),
        (["--record", "events", "--record-class", "shirt", "--record-class", "hat"], "record.classes", ("shirt", "hat")),
        (["--record", "events", "--record-quota", "2G"], "record.quota_bytes", 2_000_000_000),
        (["--record", "events", "--record-as", "stills"], "record.kind", "stills"),
        (["--record", "events", "--record-fps", "2.5"], "record.fps", 2.5),
        (["--record", "events"], "record", RecordOptions(folder=Path("events"))),
        (["--record", "events", "--record-longest", "600"], "record.longest_s", 600.0),
        (["--serve", "8080"], "serve.host", "127.0.0.1"),
        (["--serve", "0.0.0.0:8080", "--no-preview"], "serve.preview", False),
        (["--mqtt", "mqtt://broker/attic"], "mqtt.images", False),
        (["--mqtt", "mqtt://broker", "--mqtt-images"], "mqtt.images", True),
    ],
)
def test_flags_become_options(arguments: list[str], field: str, expected: Any) -> None:
    found: Any = options(*arguments)
    for name in field.split("."):
        found = getattr(found, name)
    assert found == expected


@pytest.mark.parametrize(
    ("convert", "text", "expected"),
    [
        (positive_int, "3", 3),
        (positive_int, "0", None),
        (positive_float, "0.5", 0.5),
        (positive_float, "nan", None),
        (positive_float, "inf", None),
        (seconds, "0", 0.0),
        (seconds, "-1", None),
        (fraction, "1", 1.0),
        (fraction, "1.01", None),
        (byte_count, "1000", 1000),
        (byte_count, "1.5k", 1500),
        (byte_count, "500M", 500_000_000),
        (byte_count, "2GB", 2_000_000_000),
        (byte_count, "0", None),
        (byte_count, "0.0G", None),
        (byte_count, "-1", None),
        (byte_count, "1T", None),
        (byte_count, "", None),
    ],
)
def test_numbers(convert: Any, text: str, expected: float | None) -> None:
    if expected is None:
        with pytest.raises(argparse.ArgumentTypeError, match="expected"):
            convert(text)
    else:
        assert convert(text) == expected


@given(st.text(max_size=20))
def test_bytes_are_a_number_or_refused(text: str) -> None:
    with suppress(argparse.ArgumentTypeError):
        assert byte_count(text) >= 0


@pytest.mark.parametrize("text", ["x", "", "1.5", "0x10"])
def test_what_is_no_number_is_told_in_words(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number, got '"):
        positive_int(text)
    with pytest.raises(argparse.ArgumentTypeError, match="expected a number, got 'abc'"):
        fraction("abc")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--token-file", "token"], "--token-file does nothing without --serve"),
        (["--tls-cert", "cert.pem", "--mqtt", "mqtt://broker"], "--tls-cert does nothing without --serve"),
        (["--record-class", "shirt"], "--record-class does nothing without --record"),
        (["--no-preview"], "--no-preview does nothing without --serve"),
        (["--mqtt-password-file", "word", "--serve", "8080"], "--mqtt-password-file does nothing without --mqtt"),
        (["--mqtt-images"], "--mqtt-images does nothing without --mqtt"),
    ],
)
def test_a_flag_without_the_one_it_belongs_to_is_an_error(arguments: list[str], message: str) -> None:
    with pytest.raises(OutputError, match=message):
        options(*arguments)


def test_a_usage_error_is_not_hidden_behind_a_list_of_all_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options("--frames", "many")
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert told[1].endswith("argument --frames: expected a whole number, got 'many'")


def test_every_flag_is_explained() -> None:
    commands = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    for action in commands.choices["camera"]._actions:
        assert action.help, action.dest
