"""All targets by name."""

from __future__ import annotations

import fuzz_files
import fuzz_network

TARGETS = fuzz_files.TARGETS | fuzz_network.TARGETS
