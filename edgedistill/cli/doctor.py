"""`edgedistill doctor`: what this machine can do, and the install line of what is missing."""

from __future__ import annotations

import importlib.metadata
from typing import Any, NamedTuple

import click

from edgedistill.cli.output import emit_json, emit_table


class Ability(NamedTuple):
    """Something that edgedistill can do when the packages are there."""

    what: str
    packages: tuple[str, ...]
    extra: str


ABILITIES = (
    Ability("distill", ("torch", "torchvision", "timm", "lightning-fabric", "safetensors"), "workstation"),
    Ability("export to ONNX", ("onnx", "onnxscript", "onnxruntime"), "workstation"),
    Ability("export to TFLite", ("litert-torch", "ai-edge-quantizer", "ai-edge-litert"), "workstation"),
    Ability("the demo's report", ("matplotlib", "jinja2"), "workstation"),
    Ability("run TFLite files", ("ai-edge-litert",), "litert"),
    Ability("run TFLite files, old interpreter", ("tflite-runtime",), "tflite-runtime"),
    Ability("run ONNX files", ("onnxruntime",), "onnx"),
    Ability("show a window", ("opencv-python",), "gui"),
    Ability("tell a broker and Prometheus", ("paho-mqtt", "prometheus-client"), "iot"),
)


@click.command("doctor", epilog="Example: edgedistill doctor --json")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def command(*, as_json: bool) -> None:
    """Say what this machine can do: processor, int8 instructions, interpreters, cameras, and what to install for more."""
    from edgedistill.runtime.cameras import cameras
    from edgedistill.runtime.conditions import environment
    from edgedistill.runtime.engines import installed_engines

    found: dict[str, Any] = {
        "environment": environment(),
        "engines": installed_engines(),
        "cameras": [camera._asdict() for camera in cameras()],
        "abilities": [examine(ability) for ability in ABILITIES],
    }
    if as_json:
        emit_json(found)
    else:
        show(found)


def described(camera: dict[str, Any]) -> str:
    """Return a camera with its name and how to name it for good."""
    serial = f", usb:{camera['serial']}" if camera["serial"] else ""
    return f"{camera['device']} ({camera['name']}{serial})"


def examine(ability: Ability) -> dict[str, Any]:
    """Return whether an ability is there, the versions of its packages, and the line that installs what is missing."""
    versions: dict[str, str | None] = {}
    for package in ability.packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    ready = None not in versions.values()
    return {
        "what": ability.what,
        "ready": ready,
        "versions": versions,
        "install": None if ready else f"pip install 'edgedistill[{ability.extra}]'",
    }


def show(found: dict[str, Any]) -> None:
    """Write what was found as two tables."""
    at = found["environment"]
    machine = [
        ["processor", f"{at['cpu']}, {at['cores']} cores, {at['machine']}"],
        ["int8 instructions", ", ".join(at["int8"]) or "none: int8 files may be no faster than fp32 here"],
        ["governor", at["governor"] or "not readable"],
        ["temperature", f"{at['temperature_c']:.0f} °C" if at["temperature_c"] is not None else "not readable"],
        ["throttling", ", ".join(at["throttled"]) or "none" if at["throttled"] is not None else "not readable"],
        ["system", at["os"]],
        ["interpreters", ", ".join(f"{name} {version}" for name, version in found["engines"].items()) or "none"],
        ["cameras", ", ".join(described(camera) for camera in found["cameras"]) or "none found"],
    ]
    emit_table(["this machine", ""], machine, numbers=False)
    rows = [
        [entry["what"], "yes" if entry["ready"] else "no", entry["install"] or ", ".join(f"{p} {v}" for p, v in entry["versions"].items())]
        for entry in found["abilities"]
    ]
    emit_table(["can it …", "", "with, or what to install"], rows, numbers=False)
