"""`python tests/arm [--out FILE] [SUITE…]`: run all that a board runs in an emulated Raspberry Pi 4, into runs/arm/results.json."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import msgspec  # noqa: E402
from arm_apt import NotHere  # noqa: E402
from arm_proof import WORK, prove  # noqa: E402
from arm_userland import SUITES  # noqa: E402

from edgedistill.bundle import write_atomically  # noqa: E402


def main() -> int:
    """Run the suites and write their results."""
    parser = argparse.ArgumentParser(prog="tests/arm", description=__doc__)
    parser.add_argument("suites", nargs="*", default=list(SUITES), metavar="SUITE", help=f"of {', '.join(SUITES)}; default: all")
    parser.add_argument("--out", type=Path, default=WORK / "results.json", help="where the results go (default: %(default)s)")
    given = parser.parse_args()
    try:
        found = prove(given.suites)
    except NotHere as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    text = msgspec.json.format(msgspec.json.encode(found), indent=2)
    write_atomically(given.out, text + b"\n")
    print(text.decode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
