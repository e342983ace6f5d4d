"""The service that setup.sh writes: a unit that systemd takes, that is shut as tightly as it can be, and under which the loop runs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from http_camera_server import HttpCamera
from test_device_scripts import DEVICES, PI, PIS, Fake, environment, run, shim

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "export" / "fashion-mnist-mobilenetv3"
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
LAPTOP = Fake(machine="x86_64", dpkg="amd64")
WATCHDOG_S = 2.0
LOCAL = ["localhost", "link-local", "multicast", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"]
#: Tenths of systemd's exposure level: 1.2 of 10 ("OK" begins at 4.9 downwards).
EXPOSURE = 12
#: What `systemd-analyze security` still remarks, and what needs it: a camera, the network, /proc/cpuinfo, packages of the system.
REMARKED = {
    "RootDirectory=/RootImage=",
    "SupplementaryGroups=",
    "PrivateDevices=",
    "DeviceAllow=",
    "PrivateNetwork=",
    "IPAddressDeny=",
    "RestrictAddressFamilies=~AF_(INET|INET6)",
    "RestrictAddressFamilies=~AF_NETLINK",
    "RestrictAddressFamilies=~AF_UNIX",
    "ProcSubset=",
}


def set_up(
    tmp_path: Path, *options: str, board: str = "rpi5", fake: Fake = PI, before: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    arguments = ["--dry-run", "--package", "some.whl", *before, "--service", str(BUNDLE), *options]
    return run(f"{board}/setup.sh", *arguments, tmp_path=tmp_path, fake=fake)


def unit_of(shown: str) -> str:
    """Return the unit that a dry run shows."""
    found = re.search(r"^\[Unit\]\n.*?^WantedBy=\S+\n", shown, re.MULTILINE | re.DOTALL)
    assert found is not None, shown
    return found[0]


def words_of(unit: str) -> list[str]:
    """Return the command line of a unit as systemd would run it, %d left as it is."""
    line = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line.removeprefix("ExecStart="))]


@pytest.mark.parametrize(("board", "fake"), [*((board, PI) for board in PIS), ("laptop", LAPTOP)])
def test_a_dry_run_shows_every_step_and_the_unit(board: str, fake: Fake, tmp_path: Path) -> None:
    done = set_up(tmp_path, "--serve", "8443", board=board, fake=fake)
    assert done.returncode == 0, done.stderr
    steps = [line for line in done.stdout.splitlines() if line.startswith("+ ")]
    name = BUNDLE.name
    assert steps[-8:] == [
        "+ sudo install -d -m 755 /opt/edgedistill/bundles",
        f"+ sudo rm -rf /opt/edgedistill/bundles/{name}",
        f"+ sudo cp -r {BUNDLE} /opt/edgedistill/bundles/{name}",
        rf"+ sudo chmod -R u=rwX\,go=rX /opt/edgedistill/bundles/{name}",
        "+ sudo tee /etc/systemd/system/edgedistill.service",
        "+ sudo systemctl daemon-reload",
        "+ sudo systemctl enable edgedistill.service",
        "+ sudo systemctl restart edgedistill.service",
    ]
    assert "+ sudo /opt/edgedistill/venv/bin/pip install " in done.stdout
    assert "paho-mqtt" in done.stdout or r"\[litert\,iot\]" in done.stdout
    words = words_of(unit_of(done.stdout))
    assert words[:5] == ["/opt/edgedistill/venv/bin/python", "-m", "edgedistill.runtime", "camera", f"/opt/edgedistill/bundles/{name}"]
    assert words[-2:] == ["--serve", "8443"]


def test_options_of_the_user_take_the_place_of_the_profiles(tmp_path: Path) -> None:
    done = set_up(tmp_path, "--source", "test://", "--source", "rtsp://x/y", "--file", "onnx-fp32")
    words = words_of(unit_of(done.stdout))
    assert words[5:] == [
        "--wait",
        "--output",
        "none",
        "--threads",
        "2",
        "--source",
        "test://",
        "--source",
        "rtsp://x/y",
        "--file",
        "onnx-fp32",
    ]


@pytest.mark.parametrize("word", ["a b", "50% off", "$HOME", 'say "hi"', "back\\slash", "", "it's", "#x", "a;b", "ä"])
def test_any_word_comes_to_the_program_as_it_is(word: str, tmp_path: Path) -> None:
    assert words_of(unit_of(set_up(tmp_path, "--record-class", word).stdout))[-2:] == ["--record-class", word]


def allowed(unit: str) -> list[str]:
    line = next(line for line in unit.splitlines() if line.startswith("IPAddressAllow="))
    return line.removeprefix("IPAddressAllow=").split()


@pytest.mark.parametrize("addresses", [[], ["203.0.113.7"], ["203.0.113.0/24", "2001:db8::7", "8.8.8.8"], ["any"]])
def test_it_reaches_the_local_network_and_what_is_allowed(addresses: list[str], tmp_path: Path) -> None:
    before = tuple(word for address in addresses for word in ("--allow", address))
    done = set_up(tmp_path, "--mqtt", "mqtt://broker.example", before=before)
    unit = unit_of(done.stdout)
    assert allowed(unit) == [*LOCAL, *addresses]
    assert "IPAddressDeny=any\n" in unit
    said = done.stdout.splitlines()[-1]
    assert said.startswith(" and ".join(["It reaches the local network", *addresses]) + ". ")
    assert "again with --allow ADDRESS before --service" in said
    assert "# The local network only" in unit, "who reads the unit is told how to open it"
    assert "setup.sh --allow ADDRESS" in unit


def test_secrets_are_handed_over_by_systemd_and_shown_nowhere(tmp_path: Path) -> None:
    token, password = tmp_path / "my token", tmp_path / "password"
    token.write_text("s3cr3t-token")
    password.write_text("s3cr3t-password")
    done = set_up(tmp_path, f"--token-file={token}", "--mqtt", "mqtt://cam@broker", "--mqtt-password-file", str(password))
    unit = unit_of(done.stdout)
    assert "s3cr3t" not in done.stdout + done.stderr
    assert "+ sudo install -d -m 700 /etc/edgedistill" in done.stdout
    assert f"+ sudo install -m 600 {shlex.quote(str(token)).strip(chr(39))[:5]}" in done.stdout
    assert "LoadCredential=token-file:/etc/edgedistill/token-file\n" in unit
    assert "LoadCredential=mqtt-password-file:/etc/edgedistill/mqtt-password-file\n" in unit
    assert words_of(unit)[-6:] == [
        "--token-file",
        "%d/token-file",
        "--mqtt",
        "mqtt://cam@broker",
        "--mqtt-password-file",
        "%d/mqtt-password-file",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--service"], 2, "--service needs a bundle"),
        (["--service", "/nowhere"], 1, "'/nowhere' is no bundle: it has no manifest.json"),
        (["--service", "odd name"], 1, "is to have a name of letters"),
        (["--venv", "/home/pi/venv", "--service", str(BUNDLE)], 2, "a service cannot see /home/pi/venv"),
        (["--service", str(BUNDLE), "--token-file"], 2, "--token-file needs a file"),
        (["--service", str(BUNDLE), "--token-file", "/nowhere"], 1, "--token-file: there is no file '/nowhere'"),
        (["--service", str(BUNDLE), "--record-class", "two\nlines"], 2, "cannot go over two lines"),
        (["--allow"], 2, "--allow needs an address"),
        (["--allow", "broker.example", "--service", str(BUNDLE)], 2, "--allow broker.example: expected an address or a network"),
        (["--allow", "", "--service", str(BUNDLE)], 2, "expected an address or a network"),
        (["--allow", "8.8.8.8 any", "--service", str(BUNDLE)], 2, "expected an address or a network"),
    ],
)
def test_what_cannot_become_a_service_is_refused_before_anything_is_done(
    arguments: list[str], code: int, said: str, tmp_path: Path
) -> None:
    (tmp_path / "odd name").mkdir()
    (tmp_path / "odd name" / "manifest.json").write_text("{}")
    done = run("rpi5/setup.sh", "--dry-run", *arguments, tmp_path=tmp_path)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "+" not in done.stdout


def test_a_phone_has_no_systemd(tmp_path: Path) -> None:
    done = run("android/setup.sh", "--dry-run", "--service", str(BUNDLE), tmp_path=tmp_path, fake=PI._replace(user="0"))
    assert done.returncode == 2
    assert "no systemd" in done.stderr


def test_without_dry_run_the_unit_is_written(tmp_path: Path) -> None:
    """By a sudo that notes what it is to do, and writes only the unit."""
    variables = environment(tmp_path, PI)
    shim(tmp_path / "bin", "sudo", f'echo "$*" >>{tmp_path}/log; [ "$1" != tee ] || {shutil.which("cat")} >{tmp_path}/unit')
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    shim(tmp_path / "venv" / "bin", "python", "exit 0")
    command = [str(DEVICES / "rpi5" / "setup.sh"), "--package", "some.whl", "--venv", str(tmp_path / "venv"), "--service", str(BUNDLE)]
    subprocess.run(command, check=True, capture_output=True, env=variables, timeout=60)
    assert words_of((tmp_path / "unit").read_text())[0] == str(tmp_path / "venv" / "bin" / "python")
    assert (tmp_path / "log").read_text().splitlines()[-1] == "systemctl restart edgedistill.service"


# --- what systemd says ------------------------------------------------------------------------------------------------------


@pytest.fixture
def unit_file(tmp_path: Path) -> Path:
    """Return the file of a unit with all kinds of options, its interpreter being one that exists here."""
    secret = tmp_path / "secret"
    secret.write_text("x")
    options = ["--serve", "0.0.0.0:8443", "--token-file", str(secret), "--record", "events", "--record-class", "50% $x"]
    done = set_up(tmp_path, *options, before=("--allow", "203.0.113.7", "--allow", "2001:db8::/32"))
    file = tmp_path / "edgedistill.service"
    file.write_text(unit_of(done.stdout).replace("/opt/edgedistill/venv/bin/python", "/usr/bin/env"))
    return file


@needs_systemd
def test_systemd_takes_the_unit(unit_file: Path) -> None:
    done = subprocess.run([str(ANALYZE), "verify", "--man=no", str(unit_file)], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_systemd_would_say_what_is_wrong_with_it(unit_file: Path) -> None:
    unit_file.write_text(unit_file.read_text().replace("ProtectHome=yes", "ProtectHome=sometimes"))
    done = subprocess.run([str(ANALYZE), "verify", "--man=no", str(unit_file)], capture_output=True, text=True, check=False, timeout=60)
    assert "Failed to parse protect home value" in done.stderr


@needs_systemd
def test_the_unit_is_shut_as_tightly_as_a_camera_on_a_network_can_be(unit_file: Path) -> None:
    command = [str(ANALYZE), "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE}", str(unit_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert {line.split()[1] for line in done.stdout.splitlines() if line.startswith("✗")} == REMARKED


# --- the loop under it, by a supervisor of our own, as no systemd runs where tests run ----------------------------------------


class Supervisor:
    """What systemd is to a service of Type=notify: a socket, and the messages of the one process."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)

    def wait_for(self, message: str, within_s: float) -> list[str]:
        """Return what came until a message that begins so, this one included."""
        came: list[str] = []
        end_s = time.monotonic() + within_s
        while not came or not came[-1].startswith(message):
            self._socket.settimeout(max(0.01, end_s - time.monotonic()))
            came.append(self._socket.recv(4096).decode())
        return came

    def hears(self, message: str, within_s: float) -> bool:
        try:
            return bool(self.wait_for(message, within_s))
        except TimeoutError:
            return False

    def close(self) -> None:
        self._socket.close()


@contextmanager
def service(tmp_path: Path, *options: str, wrapper: tuple[str, ...] = ()) -> Iterator[tuple[Supervisor, subprocess.Popen[str]]]:
    """Run the command of the unit as systemd would, with this interpreter and this checkout's bundle."""
    words = words_of(unit_of(set_up(tmp_path, *options).stdout))
    command = [*wrapper, sys.executable, *words[1:4], str(BUNDLE), *words[5:]]
    supervisor = Supervisor(tmp_path)
    variables = {**os.environ, "NOTIFY_SOCKET": supervisor.address, "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6)), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=variables, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        yield supervisor, process
    finally:
        process.kill()
        process.communicate()
        supervisor.close()


@pytest.mark.slow
def test_a_service_is_ready_feeds_its_watchdog_and_ends_when_told(tmp_path: Path) -> None:
    with service(tmp_path, "--source", "test://") as (supervisor, process):
        assert supervisor.wait_for("READY=1", 30)
        for _ in range(3):
            assert supervisor.wait_for("WATCHDOG=1", 3 * WATCHDOG_S)
        assert "quality" in supervisor.wait_for("STATUS=", 10)[-1]
        process.send_signal(signal.SIGTERM)
        assert supervisor.wait_for("STOPPING=1", 2)
        assert process.wait(2) == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the names of threads' states are Linux's")
def test_a_loop_that_hangs_starves_its_watchdog(tmp_path: Path) -> None:
    with service(tmp_path, "--source", "test://") as (supervisor, process):
        assert supervisor.wait_for("WATCHDOG=1", 30)
        process.send_signal(signal.SIGSTOP)
        supervisor.hears("WATCHDOG=1", 0.1)
        assert not supervisor.hears("WATCHDOG=1", 2 * WATCHDOG_S)
        process.send_signal(signal.SIGCONT)
        assert supervisor.wait_for("WATCHDOG=1", 10)


@pytest.mark.slow
def test_a_camera_that_is_away_is_no_hang(tmp_path: Path) -> None:
    """The service waits for it; to be killed over and over would help nobody."""
    with service(tmp_path, "--source", "http://127.0.0.1:9/video") as (supervisor, _):
        assert supervisor.wait_for("READY=1", 30)
        for _ in range(2):
            assert supervisor.wait_for("WATCHDOG=1", 3 * WATCHDOG_S)
        assert "waiting for" in supervisor.wait_for("STATUS=", 10)[-1]


@pytest.mark.slow
@pytest.mark.parametrize("source", ["test://pattern?fps=0.1", "snapshot"])
def test_a_camera_that_is_slower_than_the_watchdog_is_no_hang(source: str, tmp_path: Path) -> None:
    with HttpCamera([np.zeros((48, 64, 3), np.uint8)]) as camera:
        address = camera.snapshot if source == "snapshot" else source
        with service(tmp_path, "--source", address, "--fps", "0.1") as (supervisor, _):
            assert supervisor.wait_for("READY=1", 30)
            for _ in range(5):
                assert supervisor.wait_for("WATCHDOG=1", WATCHDOG_S)


def allowed_calls() -> list[str]:
    """Return the system calls that the unit allows: @system-service without @privileged and @resources."""
    shown = subprocess.run([str(ANALYZE), "syscall-filter", "--no-pager"], capture_output=True, text=True, check=True, timeout=60).stdout
    sets: dict[str, list[str]] = {}
    for line in shown.splitlines():
        if line.startswith("@"):
            name = line.strip()
            sets[name] = []
        elif line.startswith("    ") and not line.strip().startswith("#"):
            sets[name].append(line.strip())

    def calls(name: str) -> set[str]:
        return {call for entry in sets[name] for call in (calls(entry) if entry.startswith("@") else {entry})}

    return sorted(calls("@system-service") - calls("@privileged") - calls("@resources"))


@needs_systemd
@pytest.mark.slow
@pytest.mark.parametrize("file", ["tflite-int8", "onnx-fp32"])
def test_the_interpreters_run_under_the_units_filters(file: str, tmp_path: Path) -> None:
    """No system call that the filter forbids is needed, and no memory that is both written and run."""
    wrapper = (sys.executable, str(ROOT / "tests" / "confined.py"), ",".join(allowed_calls()))
    pytest.importorskip("paho.mqtt.client")
    options = [
        "--source",
        "test://",
        "--file",
        file,
        "--serve",
        "127.0.0.1:0",
        "--mqtt",
        "mqtt://127.0.0.1:9",
        "--record",
        "events",
        "--frames",
        "60",
    ]
    with service(tmp_path, *options, wrapper=wrapper) as (supervisor, process):
        said = process.communicate(timeout=60)[1]
        if process.returncode == 77:
            pytest.skip("this kernel or libseccomp offers no such confinement")
        assert process.returncode == 0, said
        assert "60" in said
        assert supervisor.wait_for("READY=1", 1)


@needs_systemd
@pytest.mark.slow
def test_the_confinement_confines() -> None:
    wrapper = [sys.executable, str(ROOT / "tests" / "confined.py"), ",".join(allowed_calls()), sys.executable, "-c"]
    calls = {
        "import os; os.sched_setaffinity(0, {0})": "PermissionError",
        "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)": "PermissionError",
        "import os; os.chroot('/')": "PermissionError",
    }
    for code, error in calls.items():
        done = subprocess.run([*wrapper, code], capture_output=True, text=True, check=False, timeout=60)
        if done.returncode == 77:
            pytest.skip("this kernel or libseccomp offers no such confinement")
        assert error in done.stderr, code
