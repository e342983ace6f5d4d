"""Labels and counts to an MQTT broker, for Home Assistant and whoever listens; needs the extra `iot`.

Only changes are published, and a slow heartbeat; what is published is in `homeassistant`, and never a picture unless that is asked for.
A broker that is away, slow or refuses costs the loop nothing: one thread of ours says what is new, one of paho's talks to the broker and
connects again, after 1 s, doubling up to 30 s, for ever. What changed meanwhile is lost and counted; the newest state is told on return.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import cv2
import msgspec
import numpy as np

from edgedistill.errors import MissingExtraError, OutputError
from edgedistill.runtime import homeassistant
from edgedistill.runtime.broker import Broker, parse_broker, read_password, tls_context
from edgedistill.runtime.camera import Result
from edgedistill.runtime.frames import Frame, leave_signals_to_main
from edgedistill.runtime.homeassistant import BIRTH_TOPIC, NO_ANSWER, OFFLINE, ONLINE, Answer, Device, slug
from edgedistill.runtime.status import Status, flowing

log = logging.getLogger("edgedistill.runtime")

#: How often quality is looked at, labels being told at once.
TICK_S = 1.0
#: Messages on their way at most; with more, the broker does not keep up.
MOST_QUEUED = 100
FIRST_RETRY_S, LONGEST_RETRY_S = 1, 30
#: A broker notices one and a half times this long after a cable was pulled.
KEEPALIVE_S = 30
#: How long `close` waits for the broker to take the farewell, and for each of the threads.
FAREWELL_S, THREAD_S = 0.4, 0.2
#: Pictures, where asked for, are made this wide at most.
PICTURE_WIDTH, PICTURE_QUALITY = 640, 80


class MqttOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where to publish, and what.

    Args:
        address: `mqtt://[USER@]HOST[:PORT][/TOPIC]`, or `mqtts://`; the topic is by default made of the machine's and the bundle's name.
        password_file: its first line is the user's password.
        ca: PEM file of the authority to trust instead of the system's.
        name: what Home Assistant calls the device; by default the machine's and the bundle's name.
        images: publish a JPEG of the frame when a label changes; otherwise no pixel leaves the device.
        heartbeat_s: counts are published this often.
        hold_s: another label is told once it was first for this long.
    """

    address: str
    password_file: Path | None = None
    ca: Path | None = None
    name: str | None = None
    images: bool = False
    heartbeat_s: float = 30.0
    hold_s: float = 0.5


class Watched(Protocol):
    """What tells how a run is: a `Monitor`."""

    def status(self) -> Status:
        """Return the run as it is now."""


class Settled:
    """One source's answer as it is told: another label must have been first for `hold_s`, so that it does not flicker."""

    def __init__(self, hold_s: float) -> None:
        self.answer = NO_ANSWER
        self._hold_s = hold_s
        self._other: str | None = None
        self._since_s: float | None = None
        self._begun = False

    def add(self, new: Answer, at_s: float) -> bool:
        """Take a result's answer; return whether the told label is another one now."""
        if self._begun and new.label == self.answer.label:
            self.answer, self._since_s = new, None
            return False
        if self._since_s is None or new.label != self._other:
            self._other, self._since_s = new.label, at_s
        if self._begun and at_s - self._since_s < self._hold_s:
            return False
        self.answer, self._since_s, self._begun = new, None, True
        return True


class Publisher:
    """An `Output` that tells a broker; `start` it before and `close` it after the run.

    `write` raises OutputError where a change could not be told, which its `Background` counts; it is logged here, once an outage.
    """

    def __init__(self, options: MqttOptions, watched: Watched, *, labels: Sequence[str]) -> None:
        status = watched.status()
        self._options, self._watched, self._labels = options, watched, labels
        self._broker = parse_broker(options.address)
        self._device = device_of(options, self._broker, status.bundle)
        self.name = f"mqtt {self._broker}"
        self._settled = [Settled(options.hold_s) for _ in status.sources]
        self._pictures: dict[int, np.ndarray] = {}
        self._told: dict[str, object] = {}
        self._error: str | None = None
        self._closing = False
        self._announce = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._client = self._connector()

    def start(self) -> None:
        """Connect in the background; returns at once, whether or not there is a broker."""
        self._client.connect_async(self._broker.host, self._broker.port, keepalive=KEEPALIVE_S)
        with _no_signals_for_new_threads():
            self._client.loop_start()
        self._thread.start()

    def write(self, frame: Frame, result: Result) -> None:
        """Note a result, and have it told if its label is new."""
        first = result.top_k[0] if result.top_k else None
        answer = NO_ANSWER if first is None else Answer(first.label, first.score)
        if not self._settled[result.source].add(answer, result.captured_s):
            return
        if self._options.images:
            self._pictures[result.source] = frame.frame_bgr
        self._wake.set()
        if self._error is not None:
            raise OutputError(self._error, told_elsewhere=True)

    def close(self) -> None:
        """Say goodbye if there is a broker, and end the threads; never takes longer than a second."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(THREAD_S)
        if self._client.is_connected():
            farewell = self._client.publish(self._device.availability, OFFLINE, qos=1, retain=True)
            if farewell.rc == 0:
                farewell.wait_for_publish(FAREWELL_S)
        self._client.disconnect()
        stopper = threading.Thread(target=self._client.loop_stop, name="mqtt stop", daemon=True)  # may wait for a connect that hangs
        stopper.start()
        stopper.join(THREAD_S)

    def _connector(self) -> Any:
        """Return the client with its last will, not connected yet."""
        client, broker, options = _client("edgedistill-" + self._device.id), self._broker, self._options
        client.max_queued_messages_set(MOST_QUEUED)
        client.reconnect_delay_set(FIRST_RETRY_S, LONGEST_RETRY_S)
        client.will_set(self._device.availability, OFFLINE, qos=1, retain=True)
        if broker.user is not None or options.password_file is not None:
            client.username_pw_set(broker.user, read_password(broker, options.password_file))
        context = tls_context(broker, options.ca)
        if context is not None:
            client.tls_set_context(context)
        client.on_connect, client.on_connect_fail, client.on_disconnect = self._connected, self._not_connected, self._disconnected
        client.on_subscribe, client.on_message = self._subscribed, self._heard
        return client

    def _run(self) -> None:
        """Tell what is new: at once when woken, else every `TICK_S`; all after connecting, everything now and then."""
        leave_signals_to_main()
        heartbeat_s = 0.0
        while True:
            self._wake.wait(TICK_S)
            self._wake.clear()
            if self._closing:
                return
            if not self._client.is_connected():
                continue
            announce = self._announce.is_set()
            self._announce.clear()
            status, now_s = self._watched.status(), time.monotonic()
            if announce:
                self._tell_who(len(status.sources))
            everything = announce or now_s - heartbeat_s >= self._options.heartbeat_s
            if everything:
                heartbeat_s = now_s
            self._tell(status, everything=everything)

    def _tell_who(self, sources: int) -> None:
        expire_s = round(3 * self._options.heartbeat_s) + 1
        config = homeassistant.discovery(self._device, sources=sources, labels=self._labels, expire_s=expire_s, images=self._options.images)
        self._publish(self._device.discovery, config, retain=True)
        self._publish(self._device.availability, ONLINE, retain=True)

    def _tell(self, status: Status, *, everything: bool) -> None:
        device = self._device
        changing = (status.quality, flowing(status))
        if everything or self._told.get(device.state) != changing:
            self._publish(device.state, homeassistant.state_message(status), told=changing)
        for source, settled in zip(status.sources, self._settled, strict=True):
            topic, answer = device.source(source.source), homeassistant.current(source, settled.answer)
            news = (answer.label, source.quality, source.state)
            if everything or self._told.get(topic) != news:
                self._publish(topic, homeassistant.source_message(source, answer), told=news)
        for number in list(self._pictures):
            self._publish(device.picture(number), jpeg(self._pictures.pop(number)))

    def _publish(self, topic: str, payload: str | bytes, *, retain: bool = False, told: object = None) -> None:
        if self._client.publish(topic, payload, qos=1, retain=retain).rc == 0:
            self._told[topic] = told
        elif self._client.is_connected():
            self._fail(f"it does not take messages as fast as they come, {MOST_QUEUED} wait")

    def _fail(self, reason: str) -> None:
        """Note why nothing can be told, and log it once until all is well again."""
        first = self._error is None
        self._error = f"MQTT broker {self._broker}: {reason}; going on without it and trying again"
        if first and not self._closing:
            log.warning(self._error)

    def _connected(self, client: Any, userdata: object, flags: object, reason: Any, properties: object) -> None:
        if reason.is_failure:
            self._fail(f"it refused ({reason}); check the user in the address and the password file")
        else:
            client.subscribe(BIRTH_TOPIC, qos=1)

    def _subscribed(self, client: Any, userdata: object, mid: int, reasons: object, properties: object) -> None:
        """All that was on its way when the connection broke has been sent again now, so what is told from here on is the newest."""
        if self._error is not None:
            log.warning("MQTT broker %s: connected again", self._broker)
        self._error = None
        self._announce.set()
        self._wake.set()

    def _heard(self, client: Any, userdata: object, message: Any) -> None:
        """Home Assistant has started: tell it everything."""
        if message.payload == ONLINE.encode():
            self._announce.set()
            self._wake.set()

    def _not_connected(self, client: Any, userdata: object) -> None:
        self._fail(f"it cannot be reached ({sys.exception() or 'no answer'})")

    def _disconnected(self, client: Any, userdata: object, flags: object, reason: Any, properties: object) -> None:
        if self._error is None:
            self._fail(f"the connection ended ({reason})")


def device_of(options: MqttOptions, broker: Broker, bundle: str) -> Device:
    """Return what this run is called: by its topic, or by the machine and the bundle, so that two on one machine differ."""
    machine = socket.gethostname()
    base = broker.topic or f"edgedistill/{slug(machine)}-{slug(bundle)}"
    return Device(slug(base), options.name or f"{machine} {bundle}", base, bundle)


def jpeg(frame_bgr: np.ndarray) -> bytes:
    """Return a frame as JPEG, made smaller if it is wide."""
    height, width = frame_bgr.shape[:2]
    if width > PICTURE_WIDTH:
        size_wh = (PICTURE_WIDTH, max(1, round(height * PICTURE_WIDTH / width)))
        frame_bgr = cv2.resize(frame_bgr, size_wh, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", frame_bgr, [cv2.IMWRITE_JPEG_QUALITY, PICTURE_QUALITY])[1])


def _client(client_id: str) -> Any:
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError as error:
        raise MissingExtraError("paho-mqtt", "iot") from error
    return Client(CallbackAPIVersion.VERSION2, client_id=client_id)


@contextmanager
def _no_signals_for_new_threads() -> Iterator[None]:
    """Threads that somebody else's code starts in here leave SIGINT and SIGTERM to the main thread, as ours do."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
