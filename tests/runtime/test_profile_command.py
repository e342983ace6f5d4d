"""The command `profile`: one table or one JSON object, with the operators and their picture where they are asked for."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
import tiny_bundle

from edgedistill.errors import DataError, OutputError
from edgedistill.runtime import profile
from edgedistill.runtime.commands import profile_command
from edgedistill.runtime.energy import EnergyOptions
from edgedistill.runtime.profile import ProfileOptions

FEW = ProfileOptions(runs=2, warmup=0, threads=1, energy=None)


def test_the_table(bundle_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert profile_command(bundle_path, FEW) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("tiny-int8.tflite by litert")
    assert [line.split()[0] for line in lines[2:7]] == ["capture", "preprocess", "invoke", "postprocess", "total"]
    assert not any("operators of" in line for line in lines)


@pytest.mark.parametrize("file", [None, tiny_bundle.FILES[2]])
def test_operators_follow_the_table(bundle_path: Path, capsys: pytest.CaptureFixture[str], file: str | None) -> None:
    options = ProfileOptions(file=file, runs=2, warmup=0, threads=1, energy=None)
    profile_command(bundle_path, options, operators=True)
    told = capsys.readouterr().out
    assert f"operators of {file or 'tiny-int8.tflite'}, 100% of the whole; one invoke takes" in told
    assert "threads: 1; timed by" in told


def test_one_json_object_holds_both(bundle_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile_command(bundle_path, FEW, as_json=True)
    alone = json.loads(capsys.readouterr().out)
    profile_command(bundle_path, FEW, as_json=True, operators=True)
    both = json.loads(capsys.readouterr().out)
    assert set(both) - set(alone) == {"operators"}
    assert both["operators"]["method"] == "prefixes"
    assert both["operators"]["threads"] == both["threads"] == 1


def test_a_picture_needs_no_further_word(bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile_command(bundle_path, FEW, picture=tmp_path / "operators.png")
    assert cv2.imread(str(tmp_path / "operators.png")) is not None
    assert "operators of" in capsys.readouterr().out


def test_a_picture_that_cannot_be_written_is_an_error_after_the_figures(
    bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        profile_command(bundle_path, FEW, picture=tmp_path / "missing" / "operators.png")
    assert "operators of" in capsys.readouterr().out


def test_a_meter_that_is_not_there_is_told_before_anything_is_measured(
    bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "measure", lambda *arguments: pytest.fail("it was measured"))
    options = ProfileOptions(runs=2, warmup=0, threads=1, energy=EnergyOptions(power_file=tmp_path / "watts"))
    with pytest.raises(DataError, match="watts tells no watts: expected a file that holds a number"):
        profile_command(bundle_path, options)
    assert capsys.readouterr().out == ""
