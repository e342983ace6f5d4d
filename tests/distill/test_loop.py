"""The loop: exact resume, determinism, what it refuses, and that a teacher teaches."""

import json
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import safetensors.torch
import torch

from edgedistill import metrics, recipe
from edgedistill.distill import loop, run
from edgedistill.distill.losses import LOSSES
from edgedistill.distill.predict import predict
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


@pytest.fixture
def smooth(tiny_recipe: Recipe) -> Recipe:
    """A training of a network whose answer on an image depends on that image alone: no batch norm, no dropout."""
    student = msgspec.structs.replace(tiny_recipe.student, model="python:tiny_network:without_norm", args={})
    return msgspec.structs.replace(tiny_recipe, student=student)


def changed(wanted: Recipe, **train: object) -> Recipe:
    return msgspec.structs.replace(wanted, train=msgspec.structs.replace(wanted.train, **train))


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


@pytest.fixture
def elaborate(taught: Recipe) -> Recipe:
    """Everything that has a state: dropout, a regressor of hints, an exponential average, batches in pieces, momentum."""
    terms = (*taught.distill, Term(loss="hint", layers={"0": "0"}, weight=0.5))
    train = msgspec.structs.replace(taught.train, accumulate=2, ema=0.9, optimizer="nadamw", clip_grad_norm=1.0, precision="bf16-mixed")
    return msgspec.structs.replace(taught, distill=terms, train=train)


@pytest.mark.parametrize("step", [6, 13])
def test_a_run_with_parts_average_and_pieces_is_resumed_to_the_same_bits(elaborate: Recipe, tmp_path: Path, step: int) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run.distill(elaborate, whole)
    with pytest.raises(KeyboardInterrupt):
        run.distill(elaborate, cut, progress=StopAt(step))
    run.distill(elaborate, cut, resume=True)
    assert same_bits(whole, cut)
    assert rows_without_time(whole) == rows_without_time(cut)


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
    [
        ({"optimizer": "adamww"}, "Did you mean"),
        ({"batch_size": 1000}, "larger than the 160 training images"),
        ({"accumulate": 3}, "16 cannot be shared evenly by 1 processes in 3 pieces; make it a multiple of 3"),
        ({"precision": "16-mixed"}, "'16-mixed' needs a GPU; write 'bf16-mixed'"),
        ({"accelerator": "abacus"}, "train.accelerator 'abacus' with 1 devices cannot be had here: .*abacus"),
    ],
)
def test_bad_settings_are_explained(tiny_recipe: Recipe, tmp_path: Path, change: dict[str, object], message: str) -> None:
    bad = msgspec.structs.replace(tiny_recipe, train=msgspec.structs.replace(tiny_recipe.train, **change))
    with pytest.raises(RecipeError, match=message):
        run.distill(bad, tmp_path / "run")


def test_a_batch_in_pieces_trains_to_the_same_weights(smooth: Recipe, tmp_path: Path) -> None:
    run.distill(smooth, tmp_path / "whole")
    run.distill(changed(smooth, accumulate=2), tmp_path / "pieces")
    whole, pieces = weights_of(tmp_path / "whole"), weights_of(tmp_path / "pieces")
    assert all(torch.allclose(whole[name], pieces[name], atol=1e-6) for name in whole)
    for a, b in zip(rows_without_time(tmp_path / "whole"), rows_without_time(tmp_path / "pieces"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-6)
        assert a["train_accuracy"] == b["train_accuracy"]


def test_the_average_is_what_is_measured_and_kept(smooth: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: after each optimizer step, average = decay · average + (1 - decay) · weights, with batches in pieces."""
    averaged, seen = changed(smooth, ema=0.75, accumulate=2, epochs=1), {}

    class Spy(loop.Sums):
        """Sees the student before each piece's backward."""

        def add(self, *arguments):  # type: ignore[no-untyped-def]
            seen.setdefault("student", []).append(
                {name: tensor.clone() for name, tensor in seen["job"].learner.student.state_dict().items()}
            )
            super().add(*arguments)

    def noted(job):  # type: ignore[no-untyped-def]
        seen["job"] = job
        return loop_train(job)

    loop_train = loop.train
    monkeypatch.setattr(loop, "Sums", Spy)
    monkeypatch.setattr(loop, "train", noted)
    run.distill(averaged, tmp_path / "run")
    after_steps = [*seen["student"][2::2], seen["job"].learner.student.state_dict()]
    assert len(after_steps) == 10
    average = dict(seen["student"][0])
    for weights in after_steps:
        average = {name: 0.75 * average[name] + 0.25 * weights[name] for name in average}
    kept = weights_of(tmp_path / "run")
    assert all(torch.allclose(kept[name], average[name], atol=1e-6) for name in kept)
    assert not torch.allclose(kept["5.weight"], after_steps[-1]["5.weight"], atol=1e-4)
    results = json.loads((tmp_path / "run" / run.RESULTS).read_text())
    logits = predict(run.load(tmp_path / "run").student, seen["job"].splits.validation, student=averaged.student)
    assert results["validation"]["last"] == metrics.accuracy(logits, seen["job"].splits.validation.labels)


def test_half_precision_leaves_weights_terms_and_the_teacher_s_answers_in_float32(
    taught: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgedistill.distill import learner

    seen: list[tuple[torch.dtype, ...]] = []

    def noted(batch, terms, **rest):  # type: ignore[no-untyped-def]
        loss, named = total_loss(batch, terms, **rest)
        seen.append((batch.student.dtype, batch.teacher.dtype, loss.dtype, *(term.dtype for term in named.values())))
        return loss, named

    total_loss = learner.total_loss
    monkeypatch.setattr(learner, "total_loss", noted)
    run.distill(changed(taught, precision="bf16-mixed", epochs=1), tmp_path / "run")
    assert set(seen) == {(torch.bfloat16, torch.float32, torch.float32, torch.float32, torch.float32)}
    assert {tensor.dtype for tensor in weights_of(tmp_path / "run").values() if tensor.is_floating_point()} == {torch.float32}


def test_convolutions_get_their_images_and_weights_channels_last(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    forward = torch.nn.Conv2d.forward

    def noted(layer: torch.nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
        seen.append(all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in (images, layer.weight)))
        return forward(layer, images)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", noted)
    data = msgspec.structs.replace(tiny_recipe.data, view_size=20)  # resized to the network's 16
    run.distill(changed(msgspec.structs.replace(tiny_recipe, data=data), epochs=1, ema=0.9), tmp_path / "run")
    assert len(seen) > 10
    assert sum(seen) >= len(seen) - 2  # counting the MACs takes one image of zeros


@pytest.mark.slow
def test_a_compiled_student_trains_like_any_other(smooth: Recipe, tmp_path: Path) -> None:
    """With a tap on an inner layer and an average; the file has the student's own names."""
    term = Term(loss="exits", exits=("0",))
    both = msgspec.structs.replace(smooth, distill=(Term(loss="cross_entropy"), term))
    both = changed(both, epochs=1, ema=0.9)
    run.distill(both, tmp_path / "eager")
    run.distill(changed(both, compile=True), tmp_path / "compiled")
    eager, compiled = weights_of(tmp_path / "eager"), weights_of(tmp_path / "compiled")
    assert eager.keys() == compiled.keys()
    assert all(torch.allclose(eager[name], compiled[name], atol=1e-4) for name in eager)


def test_weights_that_the_last_step_spoiled_are_not_saved(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """The loss of the one step of this epoch is finite, the weights after it are not."""
    once = changed(tiny_recipe, batch_size=160, epochs=1, optimizer="sgd", lr=1e38, weight_decay=0.0, warmup_epochs=0)
    with pytest.raises(ModelError, match=r"weights are not finite after 1 epochs and 0 steps; lower train.lr"):
        run.distill(once, tmp_path / "run")
    assert not (tmp_path / "run" / loop.CHECKPOINT).exists()


def test_the_last_good_checkpoint_outlives_a_loss_that_is_not_finite(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run.distill(tiny_recipe, tmp_path / "run", progress=StopAt(15))
    good = (tmp_path / "run" / loop.CHECKPOINT).read_bytes()

    def spoil(batch, term):  # type: ignore[no-untyped-def]
        return batch.student.sum() * float("nan")

    monkeypatch.setitem(LOSSES, "cross_entropy", replace(LOSSES["cross_entropy"], function=spoil))
    with pytest.raises(ModelError, match="the loss is nan in epoch 1, step 0"):
        run.distill(tiny_recipe, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / loop.CHECKPOINT).read_bytes() == good


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
