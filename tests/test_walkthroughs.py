"""The walk-throughs of the boards: made from one text, and every command in them is run, in order, on a pretended board."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import mosquitto as mq
import pretended_board
import pytest
import yaml

ROOT = Path(__file__).parents[1]
DEVICES = ROOT / "devices"
BOARDS = ("rpi4", "rpi5")
TOOLS = ("mosquitto_sub", "mosquitto_passwd", "openssl", "curl")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None] + (["mosquitto"] if mq.MOSQUITTO is None else [])


class Block(NamedTuple):
    """A fenced block: its language, where it is typed, and what it says."""

    kind: str
    place: str
    text: str


def blocks(board: str) -> list[Block]:
    found = re.findall(r"^```(\w+) ?(\w*)\n(.*?)^```$", (DEVICES / board / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return [Block(*one) for one in found]


def test_they_are_what_the_template_makes_of_them() -> None:
    done = subprocess.run([sys.executable, str(DEVICES / "walkthrough.py")], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_readme_that_was_changed_by_hand_is_found_and_made_anew(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(DEVICES, tmp_path / "devices"))
    readme = copy / "rpi5" / "README.md"
    before = readme.read_text()
    readme.write_text(before.replace("dashboard", "dash board"))
    command = [sys.executable, str(copy / "walkthrough.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "rpi5/README.md is not what walkthrough.md makes of it" in done.stdout
    subprocess.run([*command, "--write"], check=True, timeout=60)
    assert readme.read_text() == before


@pytest.mark.parametrize("board", BOARDS)
def test_nothing_is_left_out_and_nothing_is_belittled(board: str) -> None:
    text = (DEVICES / board / "README.md").read_text()
    assert not re.search(r"@[A-Z]+@", text)
    assert not re.search(r"\b(simply|just|easy|easily|obviously)\b", text, re.IGNORECASE)
    assert {one.kind for one in blocks(board)} == {"bash", "yaml"}
    headings = re.findall(r"^## (?:\d+\. )?(.*)$", text, re.MULTILINE)
    assert headings[0] == "The SD card"
    assert headings[-1] == "When it does not work"
    assert {"Home Assistant", "Prometheus", "Recordings", "Updating", "The service", "A broker"} < set(headings)


@pytest.mark.parametrize("board", BOARDS)
def test_every_option_that_is_named_exists(board: str) -> None:
    text = (DEVICES / board / "README.md").read_text()
    named = set(re.findall(r"`(--[a-z-]+)", text)) - {"--dry-run", "--iot"}
    shown = subprocess.run(
        [sys.executable, "-m", "edgedistill.runtime", "camera", "--help"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert named
    assert not [option for option in named if option not in shown]


@pytest.mark.parametrize("board", BOARDS)
def test_settings_of_home_assistant_and_prometheus_are_yaml(board: str) -> None:
    card, automation, scrape = (yaml.safe_load(one.text) for one in blocks(board) if one.kind == "yaml")
    assert card["type"] == "entities"
    assert automation["triggers"][0]["trigger"] == "state"
    assert automation["actions"][0]["action"] == "notify.notify"
    job = scrape["scrape_configs"][0]
    assert {"job_name", "scheme", "authorization", "tls_config", "static_configs"} == set(job)
    assert job["static_configs"] == [{"targets": ["camera1.local:8443"]}]


def entities(config: dict[str, dict[str, dict[str, str]]]) -> set[str]:
    """Return what Home Assistant calls the entities of a device: by the device's and the entity's name."""

    def slug(text: str) -> str:
        return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")

    return {f"{one['platform']}.{slug(str(config['device']['name']) + ' ' + one['name'])}" for one in config["components"].values()}


class Session:
    """A person who types a walk-through, on the workstation and on the board."""

    def __init__(self, folder: Path) -> None:
        self.port = mq.free_port()
        self._variables = {**os.environ, **pretended_board.make(folder / "board", mqtt_port=self.port, page_port=mq.free_port())}
        self._places = {"": folder / "board" / "home", "workstation": folder / "checkout"}
        self._places["workstation"].mkdir()
        for name in ("devices", "export"):
            (self._places["workstation"] / name).symlink_to(ROOT / name)

    def type(self, block: Block) -> str:
        """Run a block, line by line; return what was shown."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=self._places[block.place],
            env=self._variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def discovered(session: Session, password: str) -> dict[str, dict[str, dict[str, str]]]:
    """Return what the broker keeps of the device."""
    command = ["mosquitto_sub", "-h", "localhost", "-p", str(session.port), "-u", "camera", "-P", password]
    shown = subprocess.run([*command, "-t", "homeassistant/#", "-C", "1", "-W", "10"], capture_output=True, check=True, timeout=30).stdout
    config: dict[str, dict[str, dict[str, str]]] = json.loads(shown)
    return config


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}; apt-get install mosquitto mosquitto-clients openssl curl")
@pytest.mark.parametrize("board", BOARDS)
def test_every_command_runs(board: str, tmp_path: Path) -> None:
    pytest.importorskip("paho.mqtt.client")
    pytest.importorskip("prometheus_client")
    home = tmp_path / "board" / "home"
    session = Session(tmp_path)
    shown = ""
    try:
        for block in (one for one in blocks(board) if one.kind == "bash"):
            if "mosquitto_pub" in block.text:
                found = entities(discovered(session, (home / "mqtt-password").read_text().strip()))
                card = next(yaml.safe_load(one.text) for one in blocks(board) if "type: entities" in one.text)
                # the broker's device is called by this machine's name, the walk-through's by the board's
                assert {entity.split("garments")[1] for entity in card["entities"]} <= {entity.split("garments")[1] for entity in found}
            shown += session.type(block)
    finally:
        pretended_board.switch_off(tmp_path / "board")
    for said in ("throttled=0x0", "100", "online", "edgedistill_results_total", '"schema":1,"label":', "active (running)"):
        assert said in shown, said
    secrets = [(home / name).read_text().strip() for name in ("mqtt-password", "live-token")]
    assert not [secret for secret in secrets if secret in shown]
    assert [(home / name).stat().st_mode & 0o77 for name in ("mqtt-password", "live-token", "live-key.pem")] == [0, 0, 0]
    assert not (tmp_path / "board/root/opt/edgedistill").exists()
