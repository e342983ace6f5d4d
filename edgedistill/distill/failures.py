"""What can go wrong in a training for reasons outside of it, in words: memory, disk, workers, the other processes.

Whatever happens, the files in the run's folder are written whole or not at all, so that the last checkpoint is a good one.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import distributed

from edgedistill.errors import EdgeDistillError, ModelError, OutputError, TrainingError

FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up", errno.EFBIG: "the file is larger than is allowed"}
#: What torch says in a RuntimeError, and what happened then.
NO_MEMORY = re.compile(r"not enough memory|can't allocate memory|cannot allocate memory|out of memory|bad_alloc", re.IGNORECASE)
LOST_WORKER = re.compile(r"DataLoader worker|unable to (write to|open) .*torch_")
LOST_PROCESS = re.compile(r"closed by peer|connection reset|broken pipe|gloo|NCCL|process group|TCPStore|watchdog", re.IGNORECASE)
NO_COMPILER = re.compile(r"c\+\+ compiler|cxx.?compiler|failed to find (c compiler|g\+\+)|ptxas|working triton", re.IGNORECASE)


@contextmanager
def explained(checkpoint: Path) -> Iterator[None]:
    """Turn failures inside the block into errors that say what happened, what to change and how to go on; others pass as they are."""
    try:
        yield
    except EdgeDistillError:
        raise
    except Exception as error:
        explanation = explain(error)
        if explanation is None:
            raise
        kind, text = explanation
        raise kind(f"{text}{where_to_go_on(checkpoint)}") from error


def explain(error: BaseException) -> tuple[Callable[[str], EdgeDistillError], str] | None:
    """Return the kind of error and what to say of a failure, None for one that is not known."""
    text = first_line(error)
    for check in (_memory, _disk, _worker, _process, _compiler):
        if (found := check(error, text)) is not None:
            return found
    return None


Explanation = tuple[Callable[[str], EdgeDistillError], str] | None


def _memory(error: BaseException, text: str) -> Explanation:
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or (isinstance(error, RuntimeError) and NO_MEMORY.search(text)):
        return TrainingError, (
            f"the memory is not enough ({text}); set train.accumulate to 2 or more, which computes each batch in that many pieces; "
            "a lower train.batch_size is another training, in another folder"
        )
    return None


def _disk(error: BaseException, text: str) -> Explanation:
    if isinstance(error, OSError) and error.errno in FULL:
        where = f" at {error.filename}" if error.filename else ""
        return OutputError, f"{FULL[error.errno]}{where} ({text}); make room"
    return None


def _worker(error: BaseException, text: str) -> Explanation:
    if isinstance(error, RuntimeError) and LOST_WORKER.search(text):
        return TrainingError, (
            f"a process that reads images was killed ({text}), mostly for memory; lower train.workers (0 reads in the training itself), or "
            "give the container more shared memory"
        )
    return None


def _process(error: BaseException, text: str) -> Explanation:
    lost = isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and LOST_PROCESS.search(text))
    if lost and distributed.is_initialized():
        return TrainingError, f"another process of this training is gone ({text}); what it said stands in its own output"
    return None


def _compiler(error: BaseException, text: str) -> Explanation:
    whole = f"{type(error).__name__}: {error}"
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")) or NO_COMPILER.search(whole):
        return ModelError, (
            f"train.compile: torch.compile failed ({text}); install a C++ compiler (g++) if there is none, or set train.compile = false"
        )
    return None


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its kind."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def where_to_go_on(checkpoint: Path) -> str:
    """Return how to go on: from the checkpoint, if there is one."""
    if checkpoint.exists():
        return f". The last good checkpoint is kept in {checkpoint.parent}; the same command with --resume goes on there"
    return ". There is no checkpoint yet; the same command with --resume starts again"
