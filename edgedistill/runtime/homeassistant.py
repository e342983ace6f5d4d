"""What is said over MQTT, and what Home Assistant is told of it: topics, the discovery payload and the messages, all as plain data.

The discovery payload follows Home Assistant's documentation of MQTT device discovery (home-assistant.io/integrations/mqtt). Nothing here
names a source or holds a pixel: labels, probabilities, rates, counts and temperatures are all that there is. Sending is `mqtt`'s business.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from edgedistill import __version__
from edgedistill.runtime.quality import AWAY_S, WORDS
from edgedistill.runtime.status import SourceStatus, Status, flowing

#: Schema number of the messages.
SCHEMA = 1
#: Home Assistant announces itself here, with `online`.
BIRTH_TOPIC = "homeassistant/status"
ONLINE, OFFLINE = "online", "offline"
#: Home Assistant's longest state.
LONGEST_STATE = 255
#: With more classes the list of all of them is left out: it would be larger than everything else together.
MOST_OPTIONS = 100


class Device(NamedTuple):
    """What the broker and Home Assistant call this run.

    Args:
        id: letters, digits, `_` and `-`; stable, so that a restart is the same device.
        name: for people.
        base: the topic above all others.
        bundle: what runs.
    """

    id: str
    name: str
    base: str
    bundle: str

    @property
    def availability(self) -> str:
        """The topic that says online or offline."""
        return f"{self.base}/availability"

    @property
    def state(self) -> str:
        """The topic of the run as a whole."""
        return f"{self.base}/state"

    @property
    def discovery(self) -> str:
        """The topic where Home Assistant looks for devices."""
        return f"homeassistant/device/{self.id}/config"

    def source(self, number: int) -> str:
        """Return the topic of one source's answer."""
        return f"{self.base}/source/{number}"

    def picture(self, number: int) -> str:
        """Return the topic of one source's pictures, where they are asked for."""
        return f"{self.source(number)}/image"


class Answer(NamedTuple):
    """A label with its probability; None where no class was above the threshold."""

    label: str | None
    probability: float | None


NO_ANSWER = Answer(None, None)


def slug(text: str) -> str:
    """Return a text as an id: letters, digits, `_` and `-`."""
    return re.sub(r"[^a-zA-Z0-9_-]+", "-", text).strip("-") or "device"


def discovery(device: Device, *, sources: int, labels: Sequence[str], expire_s: int, images: bool) -> bytes:
    """Return the payload that makes Home Assistant show the device with all its entities.

    Args:
        sources: how many; entities of several are numbered from 0.
        expire_s: after so long without a message an entity is unavailable.
        images: whether there is a camera entity for each source.
    """
    components = {**_run_components(device, expire_s)}
    for number in range(sources):
        suffix = f"_{number}" if sources > 1 else ""
        components |= _source_components(device, number, suffix=suffix, labels=labels, expire_s=expire_s)
        if images:
            camera = {"platform": "camera", "name": f"Picture{suffix}".replace("_", " "), "topic": device.picture(number)}
            components[f"picture{suffix}"] = camera | {"unique_id": f"{device.id}_picture{suffix}"}
    payload = {
        "device": {
            "identifiers": [device.id],
            "name": device.name,
            "manufacturer": "edgedistill",
            "model": device.bundle,
            "sw_version": __version__,
        },
        "origin": {"name": "edgedistill", "sw_version": __version__},
        "availability_topic": device.availability,
        "payload_available": ONLINE,
        "payload_not_available": OFFLINE,
        "components": components,
        "qos": 1,
    }
    return msgspec.json.encode(payload)


def _run_components(device: Device, expire_s: int) -> dict[str, dict[str, Any]]:
    """Return the entities of the run as a whole."""
    measured = {"state_class": "measurement", "suggested_display_precision": 1, "entity_category": "diagnostic"}
    specific: dict[str, dict[str, Any]] = {
        "quality": {"name": "Quality", "device_class": "enum", "options": list(WORDS)},
        "fps": {"name": "Results per second", "unit_of_measurement": "1/s", **measured},
        "temperature": {"name": "Temperature", "device_class": "temperature", "unit_of_measurement": "°C", **measured},
        "running": {"platform": "binary_sensor", "name": "Running", "device_class": "running"},
    }
    shared = {"platform": "sensor", "state_topic": device.state, "expire_after": expire_s}
    return {
        key: {**shared, "unique_id": f"{device.id}_{key}", "value_template": f"{{{{ value_json.{key} }}}}", **entity}
        for key, entity in specific.items()
    }


def _source_components(device: Device, number: int, *, suffix: str, labels: Sequence[str], expire_s: int) -> dict[str, dict[str, Any]]:
    """Return the entities of one source: its class and the probability of that."""
    shared = {"platform": "sensor", "state_topic": device.source(number), "expire_after": expire_s}
    of_class: dict[str, Any] = {"name": f"Class{suffix}".replace("_", " "), "value_template": "{{ value_json.label }}"}
    if len(labels) <= MOST_OPTIONS:
        of_class |= {"device_class": "enum", "options": [shown(label) for label in labels]}
    probability = {
        "name": f"Probability{suffix}".replace("_", " "),
        "unit_of_measurement": "%",
        "state_class": "measurement",
        "suggested_display_precision": 0,
        "value_template": "{{ value_json.probability * 100 if value_json.probability is not none else None }}",
    }
    return {
        f"class{suffix}": {**shared, "unique_id": f"{device.id}_class{suffix}", **of_class},
        f"probability{suffix}": {**shared, "unique_id": f"{device.id}_probability{suffix}", **probability},
    }


def shown(label: str) -> str:
    """Return a label as far as Home Assistant can show it."""
    return label[:LONGEST_STATE]


def state_message(status: Status) -> bytes:
    """Return the run as a whole: whether results flow, how well, how fast, and counts since the start."""
    machine = status.machine
    message = {
        "schema": SCHEMA,
        "running": "ON" if flowing(status) else "OFF",
        "quality": status.quality,
        "fps": _rounded(status.fps, 2),
        "temperature": _rounded(machine.temperature_c, 1),
        "throttled": machine.throttled,
        "results": status.results,
        "dropped": sum(sum(source.dropped.values()) for source in status.sources),
        "reconnects": sum(source.reconnects for source in status.sources),
        "stalls": sum(source.stalls for source in status.sources),
        "uptime": round(status.uptime_s),
    }
    return msgspec.json.encode(message)


def current(source: SourceStatus, answer: Answer) -> Answer:
    """Return a source's answer, or none where it has been away for so long that the answer says nothing of now."""
    return NO_ANSWER if source.away and (source.age_s is None or source.age_s > AWAY_S) else answer


def source_message(source: SourceStatus, answer: Answer) -> bytes:
    """Return one source's answer and how well it delivers."""
    message = {
        "schema": SCHEMA,
        "label": shown(answer.label) if answer.label is not None else None,
        "probability": _rounded(answer.probability, 4),
        "state": source.state,
        "quality": source.quality,
        "fps": _rounded(source.fps, 2),
        "captured": source.captured,
    }
    return msgspec.json.encode(message)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
