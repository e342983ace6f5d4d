"""Render each board's README from walkthrough.md: `python devices/walkthrough.py` prints which differ, with `--write` it rewrites them.

One text, so that a step that changes changes for all boards; what differs is here or comes from the board's profile.
"""

from __future__ import annotations

import sys

from matrix import DEVICES, Profile, Reference, load_profiles

TEMPLATE = DEVICES / "walkthrough.md"
MADE = "<!-- made from ../walkthrough.md by `python devices/walkthrough.py --write` -->\n"

#: What the profiles do not say. Power and connectors: Raspberry Pi documentation, "Introduction" and "Camera hardware".
DIFFERS = {
    "rpi4": {
        "POWER": "USB-C, 5 V 3 A (15 W), says the Raspberry Pi documentation",
        "COOLING": "A heat sink is enough for most rooms.",
        "CABLE": "The connector has 15 contacts, as the cable that comes with a camera module.",
    },
    "rpi5": {
        "POWER": "USB-C, 5 V 5 A (27 W), says the Raspberry Pi documentation; with 5 V 3 A (15 W), USB devices get 600 mA",
        "COOLING": "The active cooler keeps it from being slowed down.",
        "CABLE": "The two connectors have 22 contacts: it takes the *Standard – Mini* cable, which not every module comes with.",
    },
}


def walkthrough(folder: str, profile: Profile) -> str:
    """Return the README of one board."""
    values = {"BOARD": profile.board, "FOLDER": folder, "SUPPORT": profile.support, "SPEED": speed(profile), **DIFFERS[folder]}
    text = TEMPLATE.read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    title, rest = text.split("\n", 1)
    return f"{title}\n{MADE}{rest}"


def speed(profile: Profile) -> str:
    """Return what others measured of a network of this size, with its source."""
    found = next(r for r in profile.reference if r.model.startswith("mobilenet_v2") and r.precision == "int8")
    return f"What others measured on such a board with\nanother engine, so as an order of magnitude: {told(found)}."


def told(reference: Reference) -> str:
    """Return a quoted latency as a sentence."""
    size = f"{reference.resolution}×{reference.resolution}"
    return f"{reference.latency_ms:g} ms for MobileNetV2 in {reference.precision} at {size} with {reference.engine} ({reference.source})"


def main(arguments: list[str]) -> int:
    """Write, or compare; 1 if a README is not what it should be."""
    differ = 0
    profiles = load_profiles()
    for folder in DIFFERS:
        file, text = DEVICES / folder / "README.md", walkthrough(folder, profiles[folder])
        if file.exists() and file.read_text(encoding="utf-8") == text:
            continue
        if arguments == ["--write"]:
            file.write_text(text, encoding="utf-8")
        else:
            differ = 1
            sys.stdout.write(f"{file} is not what walkthrough.md makes of it; run this with --write\n")
    return differ


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
