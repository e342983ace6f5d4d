"""README's commands and program are run as they stand there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest

from edgedistill.cli import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.partition("#")[0].strip() for kind, block in BLOCKS if kind == "bash" for line in block.splitlines() if line.strip()]
OURS = [command for command in COMMANDS if command.startswith("edgedistill ")]
DEVICE = [command for command in COMMANDS if command.startswith("python -m edgedistill.runtime ")]
NEEDS_CAMERA = "--source 0 "


@pytest.mark.parametrize("command", OURS)
def test_commands_parse(command: str) -> None:
    name, *arguments = shlex.split(command)[1:]
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    found.make_context(name, arguments)


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {command.split()[1] for command in COMMANDS if command.startswith("make ")}
    assert targets == {"demo", "test"}
    for target in targets:
        assert f"\n{target}: " in makefile


@pytest.mark.slow
def test_commands_run_in_order(tmp_path: Path) -> None:
    """In a copy of the checkout's layout, so that `runs/` is written there."""
    for name in ("edgedistill", "models", "export"):
        (tmp_path / name).symlink_to(ROOT / name)
    for command in OURS:
        words = [sys.executable, "-m", "edgedistill.cli", *shlex.split(command)[1:]]
        finished = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280)
        assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"


@pytest.mark.parametrize("command", [command for command in DEVICE if NEEDS_CAMERA not in command])
def test_device_commands_run(command: str) -> None:
    finished = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"
    assert finished.stdout.strip()


class ThreeFrames:
    """A camera that gives three frames and ends."""

    def __init__(self, index: int) -> None:
        self.left = 3

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        return (True, np.full((480, 640, 3), 90, np.uint8)) if self.left >= 0 else (False, None)


def test_the_ten_line_program_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    program = next(block for kind, block in BLOCKS if kind == "python")
    assert len([line for line in program.splitlines() if line.strip() and "import" not in line]) <= 10
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("cv2.VideoCapture", ThreeFrames)
    exec(compile(program, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all("Prediction(class_id=" in line for line in lines)


@pytest.mark.parametrize("document", sorted(path.relative_to(ROOT) for path in ROOT.glob("*.md")), ids=str)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / document).read_text()):
        assert (ROOT / document.parent / target).exists(), target


def test_the_makefile_says_what_each_target_does() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "demo", "test", "check", "slow", "bench"):
        assert re.search(rf"^{target} +\S", shown, re.MULTILINE), target
