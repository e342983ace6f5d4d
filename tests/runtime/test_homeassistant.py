"""What Home Assistant is told: by the rules of its documentation, and never a source's name."""

import json
import re
from typing import Any

import pytest

from edgedistill.latency import percentiles
from edgedistill.runtime.homeassistant import NO_ANSWER, Answer, Device, current, discovery, slug, source_message, state_message
from edgedistill.runtime.status import Machine, SourceStatus, State, Status

DEVICE = Device("porch", "Porch", "home/porch", "tiny")
LABELS = ["red", "green", "blue"]
CAMERA = SourceStatus("rtsp://10.0.0.7/live", 0, "running", "excellent", 29.97, 30.0, 100, {"newer frame": 3, "outage": 4}, 2, 1, 0.03)
STATUS = Status(
    bundle="tiny",
    file="tiny.tflite",
    engine="litert",
    threads=2,
    time_s=1.7e9,
    uptime_s=61.4,
    results=90,
    fps=29.123,
    quality="fair",
    sources=(CAMERA, CAMERA._replace(name="/dev/video1", source=1)),
    outputs=(),
    stages_ms={"total": percentiles([1.0])},
    machine=Machine(51.27, ["under-voltage now"], 88.0),
    result_age_s=0.1,
    answer={0: (("red", 0.9),)},
)

# --- Home Assistant's rules: home-assistant.io/integrations/mqtt, "Device discovery payload" and the pages of the three platforms

SHARED = {"device", "origin", "components", "availability_topic", "payload_available", "payload_not_available", "qos", "state_topic"}
DEVICE_KEYS = {"identifiers", "name", "manufacturer", "model", "sw_version", "serial_number", "configuration_url"}
ENTITY = {"platform", "name", "unique_id", "value_template", "entity_category", "expire_after", "state_topic", "device_class", "icon"}
ALLOWED = {
    "sensor": ENTITY | {"options", "unit_of_measurement", "state_class", "suggested_display_precision"},
    "binary_sensor": ENTITY | {"payload_on", "payload_off"},
    "camera": {"platform", "name", "unique_id", "topic", "image_encoding", "entity_category"},
}
DEVICE_CLASSES = {"sensor": {"enum", "temperature"}, "binary_sensor": {"running"}, "camera": set()}


def check(payload: dict[str, Any]) -> None:
    """Assert what Home Assistant's documentation asks of a device discovery payload."""
    assert set(payload) <= SHARED
    assert set(payload["device"]) <= DEVICE_KEYS
    assert payload["device"]["identifiers"]
    assert payload["origin"]["name"]
    assert payload["qos"] in (0, 1, 2)
    assert payload["components"]
    ids = [entity["unique_id"] for entity in payload["components"].values()]
    assert len(set(ids)) == len(ids)
    for entity in payload["components"].values():
        check_entity(entity)


def check_entity(entity: dict[str, Any]) -> None:
    platform = entity["platform"]
    assert set(entity) <= ALLOWED[platform]
    assert entity["topic" if platform == "camera" else "state_topic"]
    assert entity.get("device_class") in DEVICE_CLASSES[platform] | {None}
    assert entity.get("state_class") in {"measurement", "total", "total_increasing", None}
    assert entity.get("entity_category") in {"diagnostic", None}
    assert isinstance(entity.get("expire_after", 1), int)
    if entity.get("device_class") == "enum":
        assert len(set(entity["options"])) == len(entity["options"]) > 0
        assert not {"state_class", "unit_of_measurement"} & set(entity)
    else:
        assert "options" not in entity


def payload(*, sources: int = 1, labels: list[str] = LABELS, images: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(discovery(DEVICE, sources=sources, labels=labels, expire_s=91, images=images))
    return found


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("sources", [1, 3])
def test_the_payload_is_what_home_assistant_documents(sources: int, *, images: bool) -> None:
    check(payload(sources=sources, images=images))


@pytest.mark.parametrize(
    ("key", "value"),
    [("origin", {}), ("device", {"identifiers": []}), ("components", {}), ("components", {"a": {"platform": "sensor", "unique_id": "a"}})],
)
def test_the_rules_find_what_is_wrong(key: str, value: object) -> None:
    with pytest.raises((AssertionError, KeyError)):
        check(payload() | {key: value})


def test_one_source_has_plain_entities_and_several_are_numbered() -> None:
    assert set(payload()["components"]) == {"quality", "fps", "temperature", "running", "class", "probability"}
    several = payload(sources=2)["components"]
    assert {"class_0", "class_1", "probability_0", "probability_1"} < set(several)
    assert [several[f"class_{n}"]["state_topic"] for n in (0, 1)] == ["home/porch/source/0", "home/porch/source/1"]
    assert several["class_1"]["name"] == "Class 1"


def test_there_is_a_camera_only_where_pictures_are_asked_for() -> None:
    assert "camera" not in str(payload())
    assert payload(images=True)["components"]["picture"]["topic"] == "home/porch/source/0/image"


def test_a_thousand_classes_are_not_listed() -> None:
    one = payload(labels=[f"class {n}" for n in range(1000)])["components"]["class"]
    assert not {"options", "device_class"} & set(one)
    check(payload(labels=[f"class {n}" for n in range(1000)]))


def value_of(entity: dict[str, Any], message: dict[str, Any]) -> str:
    """Return what Home Assistant would show of a message, its templates being Jinja's."""
    jinja2 = pytest.importorskip("jinja2")
    return str(jinja2.Environment(autoescape=False).from_string(entity["value_template"]).render(value_json=message))


def test_templates_read_the_messages() -> None:
    components = payload()["components"]
    of_run, of_source = json.loads(state_message(STATUS)), json.loads(source_message(CAMERA, Answer("red", 0.91234)))
    shown = {
        key: value_of(entity, of_run if key in ("quality", "fps", "temperature", "running") else of_source)
        for key, entity in components.items()
    }
    assert float(shown.pop("probability")) == pytest.approx(91.23)
    assert shown == {"quality": "fair", "fps": "29.12", "temperature": "51.3", "running": "ON", "class": "red"}


@pytest.mark.parametrize(
    ("state", "age_s", "told"),
    [("running", 0.1, True), ("reconnecting", 9.0, True), ("reconnecting", 11.0, False), ("opening", None, False), ("ended", 99.0, True)],
)
def test_a_source_that_is_away_for_long_shows_nothing_old(state: State, age_s: float | None, told: bool) -> None:
    answer = Answer("red", 0.9)
    assert current(CAMERA._replace(state=state, age_s=age_s), answer) == (answer if told else NO_ANSWER)


def test_what_is_not_known_is_none_which_home_assistant_shows_as_unknown() -> None:
    components = payload()["components"]
    nothing = json.loads(source_message(CAMERA._replace(fps=None), NO_ANSWER))
    assert [value_of(components[key], nothing) for key in ("class", "probability")] == ["None", "None"]
    cold = json.loads(state_message(STATUS._replace(fps=None, machine=Machine(None, None, None))))
    assert [value_of(components[key], cold) for key in ("fps", "temperature")] == ["None", "None"]


def test_the_run_is_told_in_counts() -> None:
    assert json.loads(state_message(STATUS)) == {
        "schema": 1,
        "running": "ON",
        "quality": "fair",
        "fps": 29.12,
        "temperature": 51.3,
        "throttled": ["under-voltage now"],
        "results": 90,
        "dropped": 14,
        "reconnects": 4,
        "stalls": 2,
        "uptime": 61,
    }


def test_no_message_names_a_source() -> None:
    said = (
        state_message(STATUS)
        + source_message(CAMERA, Answer("red", 0.9))
        + discovery(DEVICE, sources=2, labels=LABELS, expire_s=91, images=True)
    )
    assert b"10.0.0.7" not in said
    assert b"/dev/" not in said


@pytest.mark.parametrize(("age_s", "running"), [(None, "OFF"), (0.1, "ON"), (6.0, "OFF")])
def test_a_run_is_running_while_results_flow(age_s: float | None, running: str) -> None:
    assert json.loads(state_message(STATUS._replace(result_age_s=age_s)))["running"] == running


def test_a_label_is_as_long_as_home_assistant_can_show() -> None:
    long = "x" * 300
    assert len(json.loads(source_message(CAMERA, Answer(long, 0.5)))["label"]) == 255
    assert payload(labels=[long])["components"]["class"]["options"] == ["x" * 255]


@pytest.mark.parametrize(
    ("text", "expected"), [("home/porch", "home-porch"), ("Küche", "K-che"), ("a b/ç", "a-b"), ("ç", "device"), ("ok_1-2", "ok_1-2")]
)
def test_slugs_are_ids_that_home_assistant_takes(text: str, expected: str) -> None:
    assert slug(text) == expected
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", slug(text))
