"""The command line as a whole: help, exit codes, messages."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from edgedistill import __version__
from edgedistill.cli import COMMANDS, cli, run
from edgedistill.errors import (
    BundleError,
    ConvertError,
    DataError,
    EdgeDistillError,
    EngineError,
    MissingExtraError,
    ModelError,
    ParityError,
    RecipeError,
    SourceError,
    TrainingError,
)


def test_the_names_are_the_interface() -> None:
    assert list(COMMANDS) == ["demo", "distill", "cache", "evaluate", "export", "profile", "compare-engines", "camera", "info", "doctor"]


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Example: edgedistill {name}" in " ".join(shown.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_group_s_line_is_true_of_the_command(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    assert command.help


OPTIONS = {
    "demo": ["--out", "--data", "--train-teacher", "--json"],
    "distill": ["--out", "--set", "--smoke", "--resume", "--json"],
    "evaluate": ["--data", "--json"],
    "export": ["--out", "--format", "--int8", "--no-int8", "--calibration", "--json"],
    "compare-engines": ["--threads", "--rounds", "--json"],
}


@pytest.mark.parametrize(("name", "options"), OPTIONS.items())
def test_the_options_are_the_interface(name: str, options: list[str]) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    known = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    assert set(options) <= known


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["distil"], 2, "Did you mean 'distill'"),
        (["distill"], 2, "Missing argument 'RECIPE'"),
        (["distill", "x.toml", "--epochs", "3"], 2, "No such option"),
        (["distill", "nowhere.toml"], 1, "cannot read the recipe nowhere.toml"),
        (["evaluate", "nowhere"], 1, "nowhere is not a finished run"),
        (["evaluate", "nowhere", "--file", "tflite-int8"], 1, "is not a bundle"),
        (["export", "nowhere"], 1, "is not a finished run"),
        (["export", "nowhere", "--format", "coreml"], 2, "'coreml' is not one of"),
        (["export", "nowhere", "--calibration", "3"], 2, "16"),
        (["info", "nowhere"], 1, "is not a bundle"),
        (["profile", "nowhere"], 1, "is not a bundle"),
        (["camera", "nowhere", "--source", "test://"], 1, "is not a bundle"),
    ],
)
def test_mistakes_have_codes_and_messages_and_no_traceback(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == code
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RecipeError("x"), 1),
        (DataError("x"), 1),
        (ModelError("x"), 1),
        (ConvertError("x"), 1),
        (ParityError("x", table="the table"), 1),
        (TrainingError("x"), 1),
        (BundleError("x"), 1),
        (EngineError("x"), 1),
        (MissingExtraError("torch", "workstation"), 1),
        (SourceError("x"), 4),
        (EdgeDistillError("x"), 1),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (ZeroDivisionError("a bug"), 3),
    ],
)
def test_every_error_has_its_exit_code(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(cli, "main", fail)
    assert run([]) == code
    shown = capsys.readouterr().err
    if code in (1, 4):
        assert "Error: " in shown
    if isinstance(error, ParityError):
        assert "the table" in shown
    if code == 3:
        log = next(tmp_path.iterdir())
        assert str(log) in shown
        assert "ZeroDivisionError: a bug" in log.read_text()
        assert __version__ in log.read_text()


def test_what_another_process_of_the_training_tells_is_not_told_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise TrainingError("x", told_elsewhere=True)

    monkeypatch.setattr(cli, "main", fail)
    assert run([]) == 1
    assert capsys.readouterr().err == ""


def test_a_missing_extra_says_how_to_install_it() -> None:
    assert "pip install 'edgedistill[workstation]'" in str(MissingExtraError("torch", "workstation"))


def test_the_console_script_and_the_module_are_the_same() -> None:
    answer = subprocess.run([sys.executable, "-m", "edgedistill.cli", "--help"], capture_output=True, text=True, check=True)
    assert "distill" in answer.stdout
    assert answer.stderr == ""
