"""Paths and settings that several test folders share."""

import sys
from pathlib import Path

from hypothesis import settings

# recipes of tests name the tiny network as python:tiny_network:make
sys.path.append(str(Path(__file__).parent / "distill"))

# a busy machine must not fail a property: no test here asserts on time
settings.register_profile("edgedistill", deadline=None)
settings.load_profile("edgedistill")
