"""The loop: exact resume, determinism, what it refuses, and that a teacher teaches."""

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest
import safetensors.torch
import torch

from edgedistill import recipe
from edgedistill.distill import loop, run
from edgedistill.errors import ModelError, RecipeError
from edgedistill.recipe import Recipe, Term


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / run.STUDENT)


def same_bits(first: Path, second: Path) -> bool:
    a, b = weights_of(first), weights_of(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def rows_without_time(folder: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in (folder / loop.METRICS).read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in ("seconds", "images_per_second")} for row in rows]


class StopAt:
    """A progress listener that interrupts the training at one step, as Ctrl-C would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, text: str, done: int, total: int) -> None:
        if text.startswith("training") and done == self.step:
            raise KeyboardInterrupt


@pytest.fixture
def taught(tiny_recipe: Recipe, tmp_path: Path) -> Recipe:
    """The tiny recipe with a trained teacher, two views and checkpoints within the epoch."""
    teacher = msgspec.structs.replace(
        tiny_recipe, student=msgspec.structs.replace(tiny_recipe.student, args={"width": 16}, model="python:tiny_network:make")
    )
    run.distill(teacher, tmp_path / "teacher")
    return msgspec.structs.replace(
        tiny_recipe,
        data=msgspec.structs.replace(tiny_recipe.data, views=2),
        teacher=recipe.Teacher(model="python:tiny_network:make", args={"width": 16}, weights=str(tmp_path / "teacher" / run.STUDENT)),
        distill=(Term(loss="kd", weight=0.9, temperature=4.0), Term(loss="cross_entropy", weight=0.1)),
        train=msgspec.structs.replace(tiny_recipe.train, epochs=3, checkpoint_steps=4),
    )


@pytest.mark.parametrize("step", [3, 4, 9, 10, 17, 29])
def test_a_run_interrupted_at_any_step_ends_with_the_same_bits(taught: Recipe, tmp_path: Path, step: int) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run.distill(taught, whole)
    with pytest.raises(KeyboardInterrupt):
        run.distill(taught, cut, progress=StopAt(step))
    assert not (cut / run.STUDENT).exists()
    run.distill(taught, cut, resume=True)
    assert same_bits(whole, cut)
    assert rows_without_time(whole) == rows_without_time(cut)
    assert not (cut / loop.CHECKPOINT).exists()


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_bits(tiny_recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(recipe.encode(tiny_recipe))
    run.distill(recipe.load(tmp_path / "recipe.toml"), tmp_path / "whole")
    script = textwrap.dedent(f"""
        import os, signal, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from edgedistill import recipe
        from edgedistill.distill import run
        def die(text, done, total):
            if text.startswith("training") and done == 13:
                os.kill(os.getpid(), signal.SIGKILL)
        run.distill(recipe.load({str(tmp_path / "recipe.toml")!r}), Path({str(tmp_path / "cut")!r}), progress=die)
    """)
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    assert (tmp_path / "cut" / loop.CHECKPOINT).exists()
    run.distill(recipe.load(tmp_path / "recipe.toml"), tmp_path / "cut", resume=True)
    assert same_bits(tmp_path / "whole", tmp_path / "cut")


def test_the_same_recipe_gives_the_same_bits_and_another_seed_others(tiny_recipe: Recipe, tmp_path: Path) -> None:
    for name in ("first", "second"):
        run.distill(tiny_recipe, tmp_path / name)
    run.distill(msgspec.structs.replace(tiny_recipe, seed=1), tmp_path / "other")
    assert same_bits(tmp_path / "first", tmp_path / "second")
    assert not same_bits(tmp_path / "first", tmp_path / "other")


def test_the_plain_control_starts_from_the_same_weights_as_the_taught_student(taught: Recipe, tmp_path: Path) -> None:
    """Paired by seed: with a learning rate of almost nothing both stay where they began."""
    still = msgspec.structs.replace(taught, train=msgspec.structs.replace(taught.train, epochs=1, lr=1e-12, weight_decay=0.0))
    run.distill(still, tmp_path / "taught")
    run.distill(still.plain(), tmp_path / "plain")
    a, b = weights_of(tmp_path / "taught"), weights_of(tmp_path / "plain")
    assert torch.allclose(a["0.weight"], b["0.weight"], atol=1e-9)


def test_metrics_name_each_term(taught: Recipe, tmp_path: Path) -> None:
    run.distill(taught, tmp_path / "run")
    rows = rows_without_time(tmp_path / "run")
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for row in rows:
        terms = row["terms"]
        assert isinstance(terms, dict)
        assert row["loss"] == pytest.approx(0.9 * terms["kd"] + 0.1 * terms["cross_entropy"], rel=1e-4)


def test_training_learns(tiny_recipe: Recipe, tmp_path: Path) -> None:
    longer = msgspec.structs.replace(tiny_recipe, train=msgspec.structs.replace(tiny_recipe.train, epochs=8))
    run.distill(longer, tmp_path / "run")
    rows = rows_without_time(tmp_path / "run")
    assert float(str(rows[-1]["val_accuracy"])) > 0.3
    assert float(str(rows[-1]["loss"])) < float(str(rows[0]["loss"]))


def test_a_loss_that_is_not_finite_stops_with_advice(tiny_recipe: Recipe, tmp_path: Path) -> None:
    wild = msgspec.structs.replace(tiny_recipe, train=msgspec.structs.replace(tiny_recipe.train, lr=1e30, optimizer="sgd", warmup_epochs=0))
    with pytest.raises(ModelError, match=r"the loss is (nan|inf) in epoch .*lower train.lr"):
        run.distill(wild, tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"optimizer": "adamww"}, "Did you mean"), ({"batch_size": 1000}, "larger than the 160 training images")],
)
def test_bad_settings_are_explained(tiny_recipe: Recipe, tmp_path: Path, change: dict[str, object], message: str) -> None:
    bad = msgspec.structs.replace(tiny_recipe, train=msgspec.structs.replace(tiny_recipe.train, **change))
    with pytest.raises(RecipeError, match=message):
        run.distill(bad, tmp_path / "run")


def test_a_checkpoint_of_another_recipe_is_refused(tiny_recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run.distill(tiny_recipe, tmp_path / "run", progress=StopAt(15))
    with pytest.raises(RecipeError, match="of another recipe"):
        run.distill(msgspec.structs.replace(tiny_recipe, seed=5), tmp_path / "run", resume=True)


def test_a_broken_checkpoint_is_explained(tiny_recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / loop.CHECKPOINT).write_bytes(b"nothing")
    with pytest.raises(ModelError, match="start again without --resume"):
        run.distill(tiny_recipe, tmp_path / "run", resume=True)


def test_threads_are_set_inside_the_block_only() -> None:
    before = torch.get_num_threads()
    with loop.threads(before + 1):
        assert torch.get_num_threads() == before + 1
    with loop.threads(None):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before
