"""The arguments that every loop takes."""

from __future__ import annotations

import argparse


def given() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--model", required=True, help="the model file itself")
    parser.add_argument("--source", required=True, help="a video, or the address of a camera")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--stamped", action="store_true", help="the frames carry their time of sending")
    return parser.parse_args()
