"""The process's own age and memory, from real and made-up kernel files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgedistill.runtime import process

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")


@LINUX
def test_the_age_grows_with_the_clock() -> None:
    before_s = process.age_s()
    time.sleep(0.05)
    assert 0.03 <= process.age_s() - before_s < 30


@LINUX
def test_the_age_counts_from_before_python_was_up() -> None:
    code = "import time; time.sleep(0.3); from edgedistill.runtime import process; print(process.age_s())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert 0.3 <= float(done.stdout) < 60


@LINUX
def test_the_age_is_read_past_a_name_with_spaces_and_brackets(tmp_path: Path) -> None:
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    fields = ["S", *["0"] * 18, str(int((now_s - 5) * os.sysconf("SC_CLK_TCK"))), "0"]
    (tmp_path / "stat").write_text(f"42 (a ) b) {' '.join(fields)}")
    assert process.age_s(tmp_path / "stat") == pytest.approx(5, abs=1)


@pytest.mark.parametrize("content", ["", "42 (x) S 1 2", "42 (x) " + "y " * 30])
def test_without_a_start_time_the_age_is_that_of_the_module(tmp_path: Path, content: str) -> None:
    (tmp_path / "stat").write_text(content)
    assert process.age_s(tmp_path / "stat") == pytest.approx(time.monotonic() - process._IMPORTED_S, abs=1)
    assert process.age_s(tmp_path / "missing") > 0


def test_the_peak_is_read_in_megabytes(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tpython\nVmPeak:\t 9999999 kB\nVmHWM:\t  100000 kB\nVmRSS:\t 5 kB\n")
    assert process.peak_rss_mb(tmp_path / "status") == pytest.approx(102.4)


@pytest.mark.parametrize("content", [None, "Name:\tpython\n"])
def test_without_a_peak_the_systems_own_count_is_taken(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "status").write_text(content)
    assert 5 < process.peak_rss_mb(tmp_path / "status") < 100_000


def test_the_peak_of_this_process_is_plausible() -> None:
    assert 10 < process.peak_rss_mb() < 100_000


def test_the_memory_now_is_read_in_megabytes(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("VmHWM:\t  200000 kB\nVmRSS:\t  100000 kB\n")
    assert process.rss_mb(tmp_path / "status") == pytest.approx(102.4)
    assert process.rss_mb(tmp_path / "missing") is None


@LINUX
def test_the_memory_now_is_at_most_the_peak() -> None:
    now_mb = process.rss_mb()
    assert now_mb is not None
    assert 5 < now_mb <= process.peak_rss_mb() + 1
