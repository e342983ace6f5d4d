"""The whole proof: userland, installation and checks of each suite, as one result."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from arm_board import CPU, MODEL
from arm_checks import NOT_A_LATENCY, check_suite, instructions
from arm_install import ROOT, build_wheel, install
from arm_userland import SUITES, build, prepare_host

WORK = ROOT / "runs" / "arm"
SCHEMA = 1


def say(text: str) -> None:
    """Tell what is done now."""
    print(text, file=sys.stderr, flush=True)


def prove(suites: Sequence[str] = tuple(SUITES), *, work: Path = WORK, tell: Callable[[str], None] = say) -> dict[str, Any]:
    """Return the results of the suites; raises NotHere where this machine cannot, AssertionError where ARM answers otherwise."""
    work.mkdir(parents=True, exist_ok=True)
    host = prepare_host(work)
    wheel = build_wheel(work / "wheel")
    found: dict[str, Any] = {}
    for suite in suites:
        tell(f"{suite}: userland")
        userland = build(suite, host, work)
        tell(f"{suite}: pip install")
        python = install(userland, wheel)
        tell(f"{suite}: checks")
        found[suite] = check_suite(python, work / suite) | {"debian_packages": userland.packages}
        if suite == suites[0]:
            tell(f"{suite}: instructions")
            found[suite]["instructions"] = instructions(python, work / suite)
    return {"schema": SCHEMA, "board": MODEL, "cpu": CPU, "note": NOT_A_LATENCY, "suites": found}
