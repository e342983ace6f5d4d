"""What goes wrong around a training, mostly for real: memory, disk, workers, other processes, compilers."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import distributed

from edgedistill import recipe
from edgedistill.distill import checkpoint, failures, loop, run
from edgedistill.distill.loader import Views
from edgedistill.errors import DataError, EdgeDistillError, ModelError, OutputError, TrainingError
from edgedistill.recipe import Recipe

KEPT = "The last good checkpoint is kept in .*run; the same command with --resume goes on there"


def raised(action: Callable[[], Any]) -> Exception:
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def write_to_a_full_disk() -> None:
    with open("/dev/full", "wb") as stream:
        stream.write(b"x")


REAL: dict[str, tuple[Callable[[], Any], type[EdgeDistillError], str]] = {
    "torch on a CPU": (lambda: torch.empty(2**50), TrainingError, "the memory is not enough .*train.accumulate"),
    "numpy": (lambda: np.empty(2**50), TrainingError, "the memory is not enough"),
    "full disk": (write_to_a_full_disk, OutputError, "the disk is full .*make room"),
}
RAISED: dict[str, tuple[Exception, type[EdgeDistillError], str]] = {
    "torch on a GPU": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB"), TrainingError, "the memory is not enough"),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded", "/x/checkpoint"), OutputError, "quota is used up at /x/checkpoint"),
    "shared memory": (
        RuntimeError("unable to write to file </torch_31_7>: No space left on device (28)"),
        TrainingError,
        "a process that reads images was killed .*train.workers .*shared memory",
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_real_failures_are_explained(name: str) -> None:
    action, kind, message = REAL[name]
    explained_as(raised(action), kind, message)


@pytest.mark.parametrize("name", RAISED)
def test_failures_by_their_texts_are_explained(name: str) -> None:
    explained_as(*RAISED[name])


def explained_as(error: Exception, kind: type[EdgeDistillError], message: str) -> None:
    with pytest.raises(kind, match=message) as caught, failures.explained(Path("run/checkpoint")):
        raise error
    assert type(caught.value) is kind
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        DataError("no images"),
        RuntimeError("shapes do not match"),
        KeyError("x"),
        OSError(errno.ENOENT, "No such file"),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_what_is_not_of_this_kind_passes_as_it_is(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, failures.explained(Path("run/checkpoint")):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(("is_open", "kind"), [(True, TrainingError), (False, RuntimeError)])
def test_a_lost_process_is_one_only_where_there_are_several(
    monkeypatch: pytest.MonkeyPatch, *, is_open: bool, kind: type[Exception]
) -> None:
    monkeypatch.setattr(distributed, "is_initialized", lambda: is_open)
    text = "[gloo/transport/tcp/pair.cc:545] Read error [127.0.0.1]:49334: Connection reset by peer."
    with pytest.raises(kind, match="Connection reset by peer"), failures.explained(Path("run/checkpoint")):
        raise RuntimeError(text)


def test_how_to_go_on_depends_on_whether_there_is_a_checkpoint(tmp_path: Path) -> None:
    assert failures.where_to_go_on(tmp_path / "checkpoint").endswith(
        "There is no checkpoint yet; the same command with --resume starts again"
    )
    (tmp_path / "checkpoint").touch()
    assert f"kept in {tmp_path}; the same command with --resume" in failures.where_to_go_on(tmp_path / "checkpoint")


@pytest.mark.parametrize("text", ["", "\n", "one\ntwo", "x" * 1000])
def test_a_message_quotes_one_line(text: str) -> None:
    line = failures.first_line(RuntimeError(text))
    assert line
    assert "\n" not in line
    assert len(line) <= 300


@pytest.fixture
def file_size_limit() -> Iterator[Callable[[int], None]]:
    """Sets the size of the largest file that this process may write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / run.STUDENT)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tiny_recipe: Recipe, tmp_path: Path, file_size_limit: Callable[[int], None]
) -> None:
    def shrink(text: str, done: int, total: int) -> None:
        if text.startswith("training") and done == 15:
            file_size_limit(1000)

    with pytest.raises(OutputError, match=rf"the file is larger than is allowed .*make room. {KEPT}"):
        run.distill(tiny_recipe, tmp_path / "run", progress=shrink)
    file_size_limit(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(f".{loop.CHECKPOINT}")]
    run.distill(tiny_recipe, tmp_path / "run", resume=True)
    run.distill(tiny_recipe, tmp_path / "whole")
    resumed, whole = weights_of(tmp_path / "run"), weights_of(tmp_path / "whole")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_full_disk_is_named_and_nothing_half_written_stays(tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(checkpoint, "write_atomically", full)
    with pytest.raises(OutputError, match=r"the disk is full at .*checkpoint.safetensors .*There is no checkpoint yet"):
        run.distill(tiny_recipe, tmp_path / "run")


def test_a_batch_too_large_for_the_memory_goes_on_in_pieces(tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second epoch on, more than 8 images at a time ask the allocator for a petabyte."""
    forward, calls = torch.nn.Linear.forward, [0]

    def hungry(layer: torch.nn.Linear, values: torch.Tensor) -> torch.Tensor:
        calls[0] += layer.training
        if layer.training and calls[0] > 12 and len(values) > 8:
            torch.empty(2**50)
        return forward(layer, values)

    monkeypatch.setattr(torch.nn.Linear, "forward", hungry)
    with pytest.raises(TrainingError, match=rf"the memory is not enough .*allocate.* set train.accumulate to 2 or more.* {KEPT}"):
        run.distill(tiny_recipe, tmp_path / "run")
    pieces = msgspec.structs.replace(tiny_recipe, train=msgspec.structs.replace(tiny_recipe.train, accumulate=2))
    results = run.distill(pieces, tmp_path / "run", resume=True)
    assert len((tmp_path / "run" / loop.METRICS).read_text().splitlines()) == 2
    assert results["recipe_sha256"] == recipe.digest(pieces)


def test_a_killed_worker_is_told_and_the_training_goes_on_without_workers(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    getitem = Views.__getitem__

    def dies(views: Views, position: int) -> Any:
        if torch.utils.data.get_worker_info() is not None and views.view == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return getitem(views, position)

    monkeypatch.setattr(Views, "__getitem__", dies)
    with_worker = msgspec.structs.replace(tiny_recipe, train=msgspec.structs.replace(tiny_recipe.train, workers=1))
    with pytest.raises(TrainingError, match=rf"a process that reads images was killed .*lower train.workers.* {KEPT}"):
        run.distill(with_worker, tmp_path / "run")
    run.distill(tiny_recipe, tmp_path / "run", resume=True)
    run.distill(tiny_recipe, tmp_path / "whole")
    resumed, whole = weights_of(tmp_path / "run"), weights_of(tmp_path / "whole")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


@pytest.mark.slow
def test_a_missing_compiler_is_told(tiny_recipe: Recipe, tmp_path: Path) -> None:
    from torch._inductor import config

    compiled = msgspec.structs.replace(tiny_recipe, train=msgspec.structs.replace(tiny_recipe.train, compile=True))
    without = config.patch({"cpp.cxx": (None, "/nowhere/g++"), "force_disable_caches": True})
    with without, pytest.raises(ModelError, match=r"train.compile: torch.compile failed \(.*install a C\+\+ compiler \(g\+\+\)"):
        run.distill(compiled, tmp_path / "run")
