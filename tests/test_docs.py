"""The commands and the program of README and of the camera loop's page are run as they stand there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest

from edgedistill.cli import cli
from edgedistill.runtime import profile, results

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.partition("#")[0].strip() for kind, block in BLOCKS if kind == "bash" for line in block.splitlines() if line.strip()]
OURS = [command for command in COMMANDS if command.startswith("edgedistill ")]
CAMERA_PAGE = (ROOT / "devices" / "camera.md").read_text()
CAMERA_COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", CAMERA_PAGE, re.DOTALL) for line in block.splitlines()]
NEEDS_CAMERA = "--source 0 "
RUNTIME = "python -m edgedistill.runtime "
#: What runs on a device and needs no camera; what runs for a given time takes it.
DEVICE = [
    pytest.param(command, marks=pytest.mark.slow if "--duration" in command or "--operators" in command else ())
    for command in dict.fromkeys(COMMANDS + CAMERA_COMMANDS)
    if command.startswith(RUNTIME) and NEEDS_CAMERA not in command
]
SETUP = [command for command in dict.fromkeys(COMMANDS + CAMERA_COMMANDS) if command.startswith("devices/")]


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


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder laid out as a checkout, so that `runs/` is written there."""
    for name in ("edgedistill", "models", "export", "devices"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.slow
def test_commands_run_in_order(checkout: Path) -> None:
    for command in OURS:
        words = [sys.executable, "-m", "edgedistill.cli", *shlex.split(command)[1:]]
        finished = subprocess.run(words, cwd=checkout, capture_output=True, text=True, check=False, timeout=280)
        assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"


@pytest.mark.parametrize("command", DEVICE)
def test_device_commands_run(command: str, checkout: Path) -> None:
    """At a free port, as the one that is named may be taken here; there need be no broker for the one that publishes."""
    (checkout / "runs").mkdir()
    words = [sys.executable, *shlex.split(command.replace("--serve 8080", "--serve 0"))[1:]]
    finished = subprocess.run(words, cwd=checkout, capture_output=True, text=True, check=False, timeout=60)
    assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"
    assert finished.stdout.strip()
    assert ("live page: http://127.0.0.1:" in finished.stderr) == ("--serve" in command)
    if "--record " in command:
        assert {file.suffix for file in (checkout / "runs" / "events").iterdir()} >= {".avi", ".json"}
    if "--picture " in command:
        assert (checkout / "runs" / "operators.png").stat().st_size > 1000


@pytest.mark.parametrize("command", SETUP)
def test_a_set_up_says_what_it_would_do(command: str, checkout: Path) -> None:
    assert "--dry-run" in command
    finished = subprocess.run(shlex.split(command), cwd=checkout, capture_output=True, text=True, check=False, timeout=60)
    assert finished.returncode == 0, finished.stderr
    assert "Type=notify" in finished.stdout
    assert not (checkout / "runs").exists()


def test_every_kind_of_command_is_there() -> None:
    given = " ".join(COMMANDS)
    for flag in ("--output jsonl", "--output csv", "--serve", "--record", "--mqtt", "--operators", "--service", "--roi"):
        assert flag in given
    assert SETUP


def test_every_option_that_is_named_exists() -> None:
    """Of the device's commands and of the boards' set-up; README names those of the workstation too, which are run above."""
    section = README[README.index("## A camera that is left running") : README.index("## Ten lines of your own")]
    calls = [[sys.executable, "-m", "edgedistill.runtime", command, "--help"] for command in ("camera", "profile")]
    calls += [[str(ROOT / "devices" / "laptop" / "setup.sh"), "--help"]]
    helps = [subprocess.run(call, capture_output=True, text=True, check=True, timeout=60).stdout for call in calls]
    known = set(re.findall(r"--[a-z][a-z-]+", " ".join(helps))) | {"--out", "--help"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", section + CAMERA_PAGE)) <= known


def test_the_keys_of_lines_and_profiles_are_told() -> None:
    lines = [results.ResultLine, results.LineSource, results.LineClass, results.StageTimes]
    keys = {field for struct in lines for field in struct.__struct_fields__}
    keys |= set(profile.profile(ROOT / "export/fashion-mnist-mobilenetv3", profile.ProfileOptions(runs=1, warmup=0, energy=None)))
    assert keys <= set(re.findall(r"`(\w+)`", CAMERA_PAGE))


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


DOCUMENTS = sorted(path.relative_to(ROOT) for path in [*ROOT.glob("*.md"), *ROOT.glob("devices/*.md")])


def heading_ids(text: str) -> set[str]:
    """Return what links to the headings of a Markdown text end in."""
    return {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_somewhere(document: Path) -> None:
    for target, _, heading in re.findall(r"\]\(([^)#:]*)(#([^)]+))?\)", (ROOT / document).read_text()):
        file = (ROOT / document.parent / target) if target else ROOT / document
        assert file.exists(), target
        assert not heading or heading in heading_ids(file.read_text()), f"{target}#{heading}"


def test_the_makefile_says_what_each_target_does() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    named = set(re.findall(r"`make ([a-z]+)", "".join((ROOT / document).read_text() for document in DOCUMENTS)))
    for target in {"setup", "demo", "test", "check", "slow", "bench", "soak", "arm"} | named:
        assert re.search(rf"^{target} +\S", shown, re.MULTILINE), target


def test_continuous_integration_installs_what_the_tests_use() -> None:
    """On Ubuntu Chromium has another name, and the full data set of Fashion-MNIST is Debian's alone."""

    def installed(file: str) -> set[str]:
        text = re.sub(r"\\?\n *", " ", (ROOT / file).read_text())
        found = re.search(r"install -y (?:-qq |--no-install-recommends )*([a-z0-9 -]+)", text)
        assert found is not None
        return set(found[1].partition(" - ")[0].split())

    names = {"chromium": "chromium-browser"}
    assert installed(".github/workflows/ci.yml") == {names.get(one, one) for one in installed(".ci/run") - {"dataset-fashion-mnist"}}
    assert {"mosquitto-clients", "curl"} <= installed(".ci/run")
