"""The MQTT publisher against a real mosquitto: what comes, when, and what never leaves."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import mosquitto as mq
import numpy as np
import pytest

from edgedistill.errors import MissingExtraError, OutputError
from edgedistill.postprocess import Prediction
from edgedistill.runtime import mqtt
from edgedistill.runtime.camera import Result
from edgedistill.runtime.frames import Frame
from edgedistill.runtime.homeassistant import Answer
from edgedistill.runtime.mqtt import MqttOptions, Publisher, Settled
from edgedistill.runtime.output import Background
from edgedistill.runtime.quality import Quality
from edgedistill.runtime.status import Machine, SourceStatus, State, Status

pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed: pip install 'edgedistill[iot]'")
#: paho leaves the socket of a failed TLS handshake to the garbage collector, which may come in a later test.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
needs_broker = pytest.mark.skipif(mq.MOSQUITTO is None, reason="mosquitto is not installed: apt-get install mosquitto")

LABELS = ["red", "green", "blue"]
CONFIG, AVAILABILITY, STATE, SOURCE = "/config", "/availability", "test/state", "test/source/0"


class Run:
    """A run whose quality a test can change."""

    def __init__(self, sources: int = 1) -> None:
        self.quality: Quality = "excellent"
        self.state: State = "running"
        self.age_s = 0.1
        self.sources = sources

    def status(self) -> Status:
        one = SourceStatus("rtsp://camera.local/x", 0, self.state, self.quality, 30.0, 30.0, 7, {}, 0, 0, self.age_s)
        sources = tuple(one._replace(source=number) for number in range(self.sources))
        machine = Machine(50.0, [], 90.0)
        return Status("tiny", "tiny.tflite", "fake", 1, 0.0, 1.0, 5, 29.0, self.quality, sources, (), {}, machine, 0.1, {})


FRAME = Frame(0, np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8), 0.0, 0.0, 0.0)


def result(label: str | None, at_s: float, *, source: int = 0) -> Result:
    top = () if label is None else (Prediction(LABELS.index(label), label, 0.9),)
    return Result(top, 0, at_s, 0.0, {}, 0, source)


@contextmanager
def publisher(port: int, run: Run | None = None, **options: Any) -> Iterator[Publisher]:
    given = {"address": f"mqtt://127.0.0.1:{port}/test", "hold_s": 0.0} | options
    one = Publisher(MqttOptions(**given), run or Run(), labels=LABELS)
    one.start()
    try:
        yield one
    finally:
        one.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[mq.Mosquitto]:
    with mq.mosquitto(tmp_path) as one:
        yield one


@pytest.fixture
def heard(broker: mq.Mosquitto) -> Iterator[mq.Listener]:
    with mq.listener(broker.port) as one:
        yield one


@pytest.fixture
def quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "TICK_S", 0.02)


def labels(heard: mq.Listener) -> list[str | None]:
    return [json.loads(payload)["label"] for payload in heard.payloads(SOURCE)]


# --- what is told -----------------------------------------------------------------------------------------------------------


@needs_broker
def test_a_device_is_announced_and_says_goodbye(broker: mq.Mosquitto, heard: mq.Listener) -> None:
    with publisher(broker.port):
        mq.eventually(lambda: heard.payloads(SOURCE))
        assert [message.topic for message in heard.messages] == [
            "homeassistant/device/test/config",
            "test/availability",
            "test/state",
            "test/source/0",
        ]
        assert heard.payloads(AVAILABILITY) == [b"online"]
        assert json.loads(heard.payloads(CONFIG)[0])["availability_topic"] == "test/availability"
    mq.eventually(lambda: heard.payloads(AVAILABILITY) == [b"online", b"offline"])


@needs_broker
def test_who_comes_later_gets_the_device_and_whether_it_is_there_but_nothing_stale(broker: mq.Mosquitto, heard: mq.Listener) -> None:
    with publisher(broker.port):
        mq.eventually(lambda: heard.payloads(SOURCE))
    with mq.listener(broker.port) as late:
        mq.eventually(lambda: len(late.messages) == 2)
        assert {message.topic: message.retain for message in late.messages} == {
            "homeassistant/device/test/config": True,
            "test/availability": True,
        }
        assert late.payloads(AVAILABILITY) == [b"offline"]


@needs_broker
def test_only_changes_are_told(broker: mq.Mosquitto, heard: mq.Listener) -> None:
    with publisher(broker.port) as one:
        mq.eventually(lambda: labels(heard) == [None])
        for position, label in enumerate(["red"] * 200):
            one.write(FRAME, result(label, float(position)))
        mq.eventually(lambda: labels(heard) == [None, "red"])
        one.write(FRAME, result("blue", 300.0))
        mq.eventually(lambda: labels(heard) == [None, "red", "blue"])
        one.write(FRAME, result(None, 301.0))
        mq.eventually(lambda: labels(heard) == [None, "red", "blue", None])
        assert len(heard.payloads(STATE)) == 1


@needs_broker
@pytest.mark.usefixtures("quick_ticks")
def test_another_quality_is_a_change(broker: mq.Mosquitto, heard: mq.Listener) -> None:
    run = Run()
    with publisher(broker.port, run):
        mq.eventually(lambda: heard.payloads(STATE))
        run.quality = "poor"
        mq.eventually(lambda: [json.loads(payload)["quality"] for payload in heard.payloads(STATE)] == ["excellent", "poor"])
        mq.eventually(lambda: json.loads(heard.payloads(SOURCE)[-1])["quality"] == "poor")


@needs_broker
@pytest.mark.usefixtures("quick_ticks")
def test_a_camera_that_has_gone_leaves_no_answer_behind(broker: mq.Mosquitto, heard: mq.Listener) -> None:
    run = Run()
    with publisher(broker.port, run) as one:
        one.write(FRAME, result("red", 1.0))
        mq.eventually(lambda: labels(heard)[-1:] == ["red"])
        run.state, run.age_s = "reconnecting", 3.0
        mq.eventually(lambda: json.loads(heard.payloads(SOURCE)[-1])["state"] == "reconnecting")
        assert labels(heard)[-1] == "red"
        run.age_s = 12.0
        mq.eventually(lambda: labels(heard)[-1] is None)
        run.state, run.age_s = "running", 0.1
        mq.eventually(lambda: labels(heard)[-1] == "red")


@needs_broker
@pytest.mark.usefixtures("quick_ticks")
def test_counts_are_told_now_and_then(broker: mq.Mosquitto, heard: mq.Listener) -> None:
    with publisher(broker.port, heartbeat_s=0.1):
        mq.eventually(lambda: len(heard.payloads(STATE)) >= 3)
        assert heard.payloads(AVAILABILITY) == [b"online"]


@needs_broker
def test_each_source_has_its_own_answer(broker: mq.Mosquitto, heard: mq.Listener) -> None:
    with publisher(broker.port, Run(sources=2)) as one:
        one.write(FRAME, result("red", 1.0, source=0))
        one.write(FRAME, result("blue", 1.0, source=1))
        mq.eventually(lambda: b"blue" in heard.payloads("test/source/1")[-1] if heard.payloads("test/source/1") else False)
        mq.eventually(lambda: b"red" in heard.payloads("test/source/0")[-1])
        assert "class_1" in json.loads(heard.payloads(CONFIG)[-1])["components"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("rrrr", "r"),
        ("rbrbrb", "r"),
        ("rbbbbb", "rb"),
        ("rbbrbb", "r"),
        ("rrbbbbrrrr", "rbr"),
        ("rgbgbgb", "r"),
        ("-rrr", "-"),
        ("-rrrr", "-r"),
    ],
)
def test_a_label_must_hold_before_it_is_told(given: str, told: str) -> None:
    """One result each 0.2 s, held for 0.5 s: the third result in a row after the first one settles it."""
    settled = Settled(0.5)
    seen = []
    for position, sign in enumerate(given):
        if settled.add(Answer(None if sign == "-" else sign, 0.5), position * 0.2):
            seen.append(settled.answer.label or "-")
    assert "".join(seen) == told


def test_the_told_probability_is_the_newest_of_the_told_label() -> None:
    settled = Settled(0.5)
    settled.add(Answer("r", 0.5), 0.0)
    settled.add(Answer("r", 0.75), 0.1)
    settled.add(Answer("b", 0.9), 0.2)
    assert settled.answer == Answer("r", 0.75)


# --- when it comes and goes -------------------------------------------------------------------------------------------------


@needs_broker
def test_home_assistants_birth_makes_it_tell_everything_again(broker: mq.Mosquitto, heard: mq.Listener) -> None:
    with publisher(broker.port):
        mq.eventually(lambda: heard.payloads(SOURCE))
        heard.client.publish("homeassistant/status", "offline", qos=1)
        heard.client.publish("homeassistant/status", "online", qos=1)
        mq.eventually(lambda: len(heard.payloads(SOURCE)) == 2)
        assert [len(heard.payloads(topic)) for topic in (CONFIG, AVAILABILITY, STATE)] == [2, 2, 2]


@needs_broker
def test_a_broker_that_was_away_is_told_everything_again(
    broker: mq.Mosquitto, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mqtt, "FIRST_RETRY_S", 0.1)
    with mq.listener(broker.port) as before, publisher(broker.port) as one:
        mq.eventually(lambda: before.payloads(SOURCE))
        one.write(FRAME, result("red", 1.0))
        mq.eventually(lambda: labels(before)[-1:] == ["red"])
        broker.stop()
        mq.eventually(lambda: "going on without it" in caplog.text)
        with pytest.raises(OutputError, match="going on without it and trying again"):
            one.write(FRAME, result("green", 2.0))
        with pytest.raises(OutputError):
            one.write(FRAME, result("blue", 3.0))
        broker.start()
        with mq.listener(broker.port) as after:
            mq.eventually(lambda: labels(after)[-1:] == ["blue"])
            mq.eventually(lambda: after.payloads(AVAILABILITY) and after.payloads(CONFIG))
            assert "red" not in labels(after)
            assert "green" not in labels(after)
        assert caplog.text.count("going on without it") == 1
        assert "connected again" in caplog.text


@needs_broker
def test_the_last_will_speaks_for_a_killed_process(broker: mq.Mosquitto, heard: mq.Listener) -> None:
    code = (
        "import sys, time; sys.path[:0] = [sys.argv[2], sys.argv[3]]\n"
        "from test_mqtt import Run, Publisher, MqttOptions, LABELS\n"
        "Publisher(MqttOptions(address=sys.argv[1]), Run(), labels=LABELS).start(); time.sleep(60)"
    )
    here = Path(__file__).parent
    command = [sys.executable, "-c", code, f"mqtt://127.0.0.1:{broker.port}/test", str(here), str(here.parent)]
    with subprocess.Popen(command) as process:
        try:
            mq.eventually(lambda: heard.payloads(SOURCE), within_s=30)
            os.kill(process.pid, signal.SIGKILL)
            mq.eventually(lambda: heard.payloads(AVAILABILITY) == [b"online", b"offline"])
        finally:
            process.kill()


# --- who gets in ------------------------------------------------------------------------------------------------------------


@needs_broker
@pytest.mark.skipif(mq.PASSWD is None, reason="mosquitto_passwd is not installed")
def test_a_password_from_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("right-secret\n")
    wrong.write_text("wrong-secret\n")
    with mq.mosquitto(tmp_path, settings=mq.password_settings(tmp_path, "cam", "right-secret")) as broker:
        address = f"mqtt://cam@127.0.0.1:{broker.port}/test"
        with publisher(0, address=address, password_file=wrong) as one:
            mq.eventually(lambda: "it refused" in caplog.text)
            with pytest.raises(OutputError, match="check the user in the address and the password file") as caught:
                one.write(FRAME, result("red", 1.0))
        with publisher(0, address=address, password_file=right) as one:
            mq.eventually(one._client.is_connected)
            mq.eventually(one._told.keys)
    assert "secret" not in caplog.text + str(caught.value) + repr(one._options)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # paho leaves the socket of a failed handshake to the collector
@needs_broker
@pytest.mark.skipif(mq.OPENSSL is None, reason="openssl is not installed")
def test_tls_with_an_authority_of_ones_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ca, settings = mq.certificates(tmp_path)
    with mq.mosquitto(tmp_path, settings=settings) as broker:
        address = f"mqtts://127.0.0.1:{broker.port}/test"
        with publisher(0, address=address, ca=ca) as one:
            mq.eventually(lambda: "test/availability" in one._told)
        assert not caplog.text
        with publisher(0, address=address):
            mq.eventually(lambda: "CERTIFICATE_VERIFY_FAILED" in caplog.text)


# --- what it costs ----------------------------------------------------------------------------------------------------------


def test_a_dead_broker_costs_nothing_is_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with publisher(mq.free_port()) as one:
        mq.eventually(lambda: one._error is not None)
        output = Background(one, depth=4)
        for position in range(6):
            output.write(FRAME, result(LABELS[position // 2], float(position)))
            mq.eventually(lambda position=position: sum(output.status()[1:4]) == position + 1)
        assert output.status()[1:4] == (3, 0, 3)
        assert "cannot be reached" in str(output.status().error)
        began_s = time.monotonic()
        output.close(2.0)
        assert time.monotonic() - began_s < 2.0
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "going on without it" in caplog.text


@contextmanager
def deaf_broker() -> Iterator[int]:
    """Yield the port of one that lets a client in and then acknowledges nothing more."""
    over = threading.Event()

    def serve() -> None:
        with server.accept()[0] as client:
            client.recv(65536)
            client.sendall(b"\x20\x02\x00\x00")
            identifier = client.recv(65536)[2:4]
            client.sendall(b"\x90\x03" + identifier + b"\x01")
            over.wait(60)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        over.set()
        thread.join(10)


def test_a_broker_that_acknowledges_nothing_holds_a_bounded_number_of_messages(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mqtt, "MOST_QUEUED", 30)
    monkeypatch.setattr(mqtt, "FAREWELL_S", 0.1)
    with deaf_broker() as port:
        with publisher(port) as one:
            mq.eventually(lambda: SOURCE in one._told)
            failed, position = False, 0
            while not failed:
                position += 1
                assert position < 5000
                try:
                    one.write(FRAME, result(LABELS[position % 3], float(position)))
                except OutputError as error:
                    failed = "30 wait" in str(error)
                time.sleep(0.001)
            assert len(one._client._out_messages) <= 30
            began_s = time.monotonic()
        assert time.monotonic() - began_s < 2.0


def test_threads_end_with_it_and_leave_signals_to_the_main_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with publisher(mq.free_port()):
        started = set(threading.enumerate()) - before
        assert len(started) == 2
        assert all(thread.daemon for thread in started)
        if sys.platform == "linux":
            blocked = 1 << (signal.SIGTERM - 1) | 1 << (signal.SIGINT - 1)
            for thread in started:
                mq.eventually(lambda thread=thread: _blocked_signals(thread) & blocked == blocked)
    mq.eventually(lambda: not set(threading.enumerate()) - before)


def _blocked_signals(thread: threading.Thread) -> int:
    text = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("SigBlk:")), 16)


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(MissingExtraError, match=r"edgedistill\[iot\]"):
        Publisher(MqttOptions(address="mqtt://pi"), Run(), labels=LABELS)


def test_two_bundles_on_one_machine_are_two_devices() -> None:
    names = {mqtt.device_of(MqttOptions(address="mqtt://pi"), mqtt.parse_broker("mqtt://pi"), bundle).id for bundle in ("tiny", "garments")}
    assert len(names) == 2


# --- the privacy promise ----------------------------------------------------------------------------------------------------

#: How the files of pictures and videos begin, or what they must contain.
MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"JFIF", b"Exif", b"GIF8", b"WEBP", b"ftyp", b"AVI ", b"BM\x36", b"\xff\x4f\xff\x51")
#: No run of so many bytes of any frame may leave, nor any base64 or hex of it.
RUN = 12
#: No message is longer than the device's description with some classes.
LONGEST_MESSAGE = 4096


def runs_of(frame_bgr: np.ndarray) -> set[bytes]:
    data = frame_bgr.tobytes()
    return {data[start : start + RUN] for start in range(0, len(data) - RUN, RUN)}


@needs_broker
@pytest.mark.parametrize("images", [False, True])
def test_no_picture_leaves_unless_asked_for(broker: mq.Mosquitto, heard: mq.Listener, *, images: bool) -> None:
    """Every byte that goes to the broker is looked at, and with `images` the same look finds the picture."""
    frame_bgr = np.random.default_rng(2).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    with mq.wire(broker.port) as wire:
        with publisher(wire.port, images=images, heartbeat_s=0.1) as one:
            mq.eventually(lambda: heard.payloads(SOURCE))
            for position, label in enumerate(LABELS * 3):
                one.write(Frame(position, frame_bgr, 0.0, 0.0, 0.0), result(label, float(position)))
                mq.eventually(lambda label=label: labels(heard)[-1] == label)
            mq.eventually(lambda: bool(heard.payloads("/image")) is images)
        mq.eventually(lambda: heard.payloads(AVAILABILITY)[-1] == b"offline")
        sent = bytes(wire.sent)
    assert b"red" in sent
    found = [magic for magic in MAGIC if magic in sent]
    assert bool(found) is images
    assert not [run for run in runs_of(frame_bgr) if run in sent]
    assert (max(len(message.payload) for message in heard.messages) > LONGEST_MESSAGE) is images
    assert ("camera" in str(heard.payloads(CONFIG)[0])) is images
    if not images:
        assert max(_binary_runs(sent)) < RUN


def _binary_runs(data: bytes) -> Iterator[int]:
    """Yield how long each stretch of bytes is that are no text."""
    length = 0
    for byte in data:
        length = 0 if 32 <= byte < 127 else length + 1
        yield length


def test_a_picture_that_is_replaced_while_others_are_told_is_told_as_the_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    first, old, new = (np.full((4, 4, 3), grey, np.uint8) for grey in (1, 2, 3))
    one = Publisher(MqttOptions(address="mqtt://127.0.0.1/test", images=True), Run(sources=2), labels=LABELS)
    one._pictures.update({0: first, 1: old})
    told: list[int] = []

    def encoded(frame_bgr: np.ndarray) -> bytes:
        if not told:
            one._pictures[1] = new
        told.append(int(frame_bgr[0, 0, 0]))
        return b""

    monkeypatch.setattr(mqtt, "jpeg", encoded)
    one._tell(Run(sources=2).status(), everything=False)
    one.close()
    assert told == [1, 3]
    assert not one._pictures


def test_a_wide_picture_is_made_smaller() -> None:
    wide = cv2.imdecode(np.frombuffer(mqtt.jpeg(np.zeros((1080, 1920, 3), np.uint8)), np.uint8), cv2.IMREAD_COLOR)
    small = cv2.imdecode(np.frombuffer(mqtt.jpeg(np.zeros((48, 64, 3), np.uint8)), np.uint8), cv2.IMREAD_COLOR)
    assert wide is not None
    assert small is not None
    assert (wide.shape, small.shape) == ((360, 640, 3), (48, 64, 3))


def test_the_log_says_little(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with publisher(mq.free_port()) as one:
        mq.eventually(lambda: one._error is not None)
    assert len(caplog.records) == 1
