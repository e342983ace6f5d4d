"""A Raspberry Pi as far as a walk-through can tell: programs in front of the path that act in a folder instead of on the machine.

`make` writes them; each calls this file with its own name. What can be real is: mosquitto with its tools, openssl, curl, and edgedistill
itself, with `test://` for a camera. What cannot is noted or answered as a board would: ssh, apt-get, sudo, systemctl, pip, vcgencmd.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

#: Programs that answer one thing whatever they are asked.
ANSWERS = {
    "ssh": "",
    "apt-get": "",
    "chown": "",
    "pip": "",
    "hostname": "camera1",
    "dpkg": "arm64",
    "rpicam-hello": "Available cameras\n0 : imx708 [4608x2592]",
    "uname": "aarch64",
}
#: Folders of the machine that are folders of the sandbox.
MAPPED = ("/opt/edgedistill", "/etc/edgedistill", "/etc/systemd", "/etc/mosquitto", "/var/lib/edgedistill")
CAMERAS = ("picamera:0", "0")


def make(folder: Path, *, mqtt_port: int, page_port: int) -> dict[str, str]:
    """Make a board in a folder and return the variables of its shell; `home` and `root` are in it."""
    for name in ("bin", "home", "root/var/lib/edgedistill", "root/etc/systemd/system", "root/etc/mosquitto/conf.d"):
        (folder / name).mkdir(parents=True)
    for name in (*ANSWERS, *PROGRAMS):
        program(folder / "bin" / name, name)
    release = folder / "os-release"
    release.write_text("VERSION_CODENAME=bookworm\nID=debian\n")
    return {
        "PATH": f"{folder}/bin:/usr/sbin:{os.environ['PATH']}",
        "HOME": str(folder / "home"),
        "BOARD": str(folder),
        "BOARD_MQTT_PORT": str(mqtt_port),
        "BOARD_PAGE_PORT": str(page_port),
        "EDGEDISTILL_OS_RELEASE": str(release),
        "EDGEDISTILL_SYSTEM_PYTHON": str(folder / "bin" / "python3"),
        "EDGEDISTILL_SERVICE_HOME": str(folder / "root/opt/edgedistill"),
        "OMP_NUM_THREADS": "1",
    }


def switch_off(folder: Path) -> None:
    """End what was started on the board."""
    for file in folder.glob("*.pid"):
        stop(file)


def program(file: Path, name: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(__file__)} {name} "$@"\n')
    file.chmod(0o755)


def board() -> Path:
    return Path(os.environ["BOARD"])


def mapped(word: str) -> str:
    return f"{board()}/root{word}" if word.startswith(MAPPED) else word


def real(name: str, arguments: list[str]) -> int:
    """Run the machine's own program of a name that the board has another one for."""
    path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if part != f"{board()}/bin")
    found = shutil.which(name, path=path)
    assert found is not None, f"{name} is not installed"
    return subprocess.run([found, *arguments], check=False).returncode


def sudo(arguments: list[str]) -> int:
    words = [mapped(word) for word in arguments]
    if words[0] == "tee":
        Path(words[1]).parent.mkdir(parents=True, exist_ok=True)
    return subprocess.run(words, check=False).returncode


def identity(arguments: list[str]) -> int:
    print("pi" if "-un" in arguments else "1000")
    return 0


def vcgencmd(arguments: list[str]) -> int:
    print({"get_throttled": "throttled=0x0", "measure_temp": "temp=48.3'C"}[arguments[0]])
    return 0


def scp(arguments: list[str]) -> int:
    """Copy to the home folder of the board."""
    assert arguments[0] == "-r"
    assert arguments[-1] == "pi@camera1.local:"
    for name in arguments[1:-1]:
        shutil.copytree(name, board() / "home" / Path(name).name)
    return 0


def python3(arguments: list[str]) -> int:
    """Make an environment or a wheel, or run a program."""
    if arguments[:2] == ["-m", "venv"]:
        program(Path(arguments[-1]) / "bin" / "python", "environment-python")
        program(Path(arguments[-1]) / "bin" / "pip", "pip")
        return 0
    if arguments[:3] == ["-m", "pip", "wheel"]:
        Path("dist").mkdir()
        Path("dist/edgedistill-0.1.0-py3-none-any.whl").touch()
        return 0
    return subprocess.run([sys.executable, *arguments], check=False).returncode


def environment_python(arguments: list[str]) -> int:
    """Run the device's command line for real, on the test pattern and not for long."""
    words = [
        "test://" if word in CAMERAS and before == "--source" else word for before, word in zip(["", *arguments], arguments, strict=False)
    ]
    if "--duration" in words:
        words[words.index("--duration") : words.index("--duration") + 2] = ["--frames", "20"]
    if "profile" in words:
        words += ["--runs", "20"]
    return subprocess.run([sys.executable, *words], check=False).returncode


def mosquitto_pub(arguments: list[str]) -> int:
    return real("mosquitto_pub", ["-p", os.environ["BOARD_MQTT_PORT"], *arguments])


def mosquitto_sub(arguments: list[str]) -> int:
    """Listen, and let Home Assistant start meanwhile, so that the answer does not take as long as a heartbeat."""
    login = [word for option in ("-h", "-u", "-P") for word in (option, arguments[arguments.index(option) + 1])]
    birth = threading.Timer(0.5, mosquitto_pub, [[*login, "-t", "homeassistant/status", "-m", "online"]])
    birth.start()
    code = real("mosquitto_sub", ["-p", os.environ["BOARD_MQTT_PORT"], *arguments])
    birth.join()
    return code


def curl(arguments: list[str]) -> int:
    return real("curl", [word.replace(":8443", f":{os.environ['BOARD_PAGE_PORT']}") for word in arguments])


def journalctl(arguments: list[str]) -> int:
    print((board() / "edgedistill.journal").read_text())
    return 0


def systemctl(arguments: list[str]) -> int:
    """Start, stop and tell of the two services."""
    name = arguments[-1].removesuffix(".service")
    if arguments[0] == "restart":
        stop(board() / f"{name}.pid")
        start(name, broker_command() if name == "mosquitto" else service_command())
    elif arguments[0] == "disable":
        stop(board() / f"{name}.pid")
    elif arguments[0] == "status":
        print("active (running)" if (board() / f"{name}.pid").exists() else "inactive (dead)")
    return 0


def start(name: str, command: list[str]) -> None:
    with (board() / f"{name}.journal").open("w") as journal:
        folder = board() / "root/var/lib/edgedistill"
        process = subprocess.Popen(command, cwd=folder, stdout=journal, stderr=journal, stdin=subprocess.DEVNULL, start_new_session=True)
    (board() / f"{name}.pid").write_text(str(process.pid))


def stop(file: Path) -> None:
    """End a service, which has two seconds to go by itself."""
    if not file.exists():
        return
    process = int(file.read_text())
    file.unlink()
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(process, number)
        except ProcessLookupError:
            return
        for _ in range(40):
            if subprocess.run(["sleep", "0.05"], check=False).returncode or not Path(f"/proc/{process}").exists():
                return


def broker_command() -> list[str]:
    text = (board() / "root/etc/mosquitto/conf.d/home.conf").read_text()
    text = text.replace("listener 1883", f"listener {os.environ['BOARD_MQTT_PORT']}").replace("/etc/mosquitto", mapped("/etc/mosquitto"))
    file = board() / "mosquitto.conf"
    file.write_text("user root\n" + text)
    found = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    assert found is not None
    return [found, "-c", str(file)]


def service_command() -> list[str]:
    """Return the command of the unit that was written, with the test pattern for its camera and the test's ports."""
    unit = (board() / "root/etc/systemd/system/edgedistill.service").read_text()
    line = next(line for line in unit.splitlines() if line.startswith("ExecStart=")).removeprefix("ExecStart=")
    words = [word.replace("%d", mapped("/etc/edgedistill")).replace("%%", "%").replace("$$", "$") for word in shlex.split(line)]
    words = ["test://" if word in CAMERAS else word.replace(":8443", f":{os.environ['BOARD_PAGE_PORT']}") for word in words]
    return [sys.executable, *(word.replace("@localhost/", f"@localhost:{os.environ['BOARD_MQTT_PORT']}/") for word in words[1:])]


PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "sudo": sudo,
    "id": identity,
    "vcgencmd": vcgencmd,
    "scp": scp,
    "python3": python3,
    "environment-python": environment_python,
    "mosquitto_sub": mosquitto_sub,
    "mosquitto_pub": mosquitto_pub,
    "curl": curl,
    "journalctl": journalctl,
    "systemctl": systemctl,
}

if __name__ == "__main__":
    asked, given = sys.argv[1], sys.argv[2:]
    if asked in ANSWERS:
        print(ANSWERS[asked], end="\n" if ANSWERS[asked] else "")
        sys.exit(0)
    sys.exit(PROGRAMS[asked](given))
