"""Paths that several test folders share."""

import sys
from pathlib import Path

# recipes of tests name the tiny network as python:tiny_network:make
sys.path.append(str(Path(__file__).parent / "distill"))
