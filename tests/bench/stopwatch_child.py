"""Run a command and print what it took as JSON: seconds to its first line, to its end, and its peak resident set.

A small process of its own, because Linux counts the memory of the parent it was forked from in a child's peak: started
from a benchmark that has torch loaded, every child would seem to need a gigabyte. Standard library only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time


def main(command: list[str]) -> None:
    """Run `command`, its stdout read here and its stderr passed on."""
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert child.stdout is not None
    first_line = child.stdout.readline()
    first_line_s = time.perf_counter() - start
    child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    total_s = time.perf_counter() - start
    told = {"first_line": first_line.decode(errors="replace"), "first_line_s": first_line_s, "total_s": total_s}
    print(json.dumps({**told, "peak_rss_mb": usage.ru_maxrss * 1024 / 1e6, "exit_code": os.waitstatus_to_exitcode(status)}))


if __name__ == "__main__":
    main(sys.argv[1:])
