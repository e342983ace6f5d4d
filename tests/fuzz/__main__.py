"""`python tests/fuzz [TARGET…] --seconds N`: fuzzing guided by the code's branches (atheris), with the checks of `test_fuzz.py`.

Inputs that reach new branches are kept in runs/fuzz/TARGET, and the next run begins with them; one that raises is left as
runs/fuzz/TARGET-raised and shown: put it into `FOUND` of `test_fuzz.py` once it is understood. Needs the extra `fuzz`, for Linux;
`make fuzz` installs it.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
OUT = HERE.parents[1] / "runs" / "fuzz"
#: An input that is longer, and twice as long as those to begin from, reaches no more, only later; MB and seconds that one may take.
LONGEST, MOST_MB, MOST_S = 4096, 2048, 5
INSTRUMENTED = ["edgedistill", "flatbuffers", "ai_edge_litert.schema_py_generated"]


def main() -> int:
    """Fuzz each target in a process of its own, and return 1 if one of them raised."""
    parser = argparse.ArgumentParser(prog="python tests/fuzz", description=__doc__)
    parser.add_argument("target", nargs="*", help="default: those where following the branches pays")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed; install it with: pip install -e '.[fuzz]'")
    if options.here:
        fuzz(options.target[0], options.seconds)
    from fuzz_targets import TARGETS

    if unknown := set(options.target) - set(TARGETS):
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    raised = []
    for name in options.target or [name for name, target in TARGETS.items() if target.guided]:
        command = [sys.executable, str(HERE), name, "--here", "--seconds", str(options.seconds)]
        if subprocess.run(command, check=False).returncode:
            raised.append(name)
    print(f"raised: {', '.join(raised) or 'none'}")
    return 1 if raised else 0


def fuzz(name: str, seconds: int) -> None:
    """Fuzz one target in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from fuzz_targets import TARGETS
    target, corpus, raised = TARGETS[name], OUT / name, OUT / f"{name}-raised"

    def check(data: bytes) -> None:
        try:
            target.check(data)
        except BaseException:
            raised.write_bytes(data)
            raise

    corpus.mkdir(parents=True, exist_ok=True)
    seeds = target.seeds()
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    longest = max(LONGEST, *(2 * len(seed) for seed in seeds))
    limits = [f"-max_total_time={seconds}", f"-max_len={longest}", f"-rss_limit_mb={MOST_MB}", f"-timeout={MOST_S}"]
    atheris.Setup(["fuzz", *limits, "-print_final_stats=1", f"-artifact_prefix={corpus}/", str(corpus)], check)
    atheris.Fuzz()


if __name__ == "__main__":
    raise SystemExit(main())
