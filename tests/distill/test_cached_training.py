"""Trainings on kept answers: each step as with the teacher itself, no teacher for a second student, and `verify` on real recipes."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from edgedistill import recipe
from edgedistill.distill import run
from edgedistill.distill.cache import cached, survey, verify
from edgedistill.distill.learner import Learner
from edgedistill.distill.teachers.network import NetworkTeacher
from edgedistill.errors import DataError, RecipeError
from edgedistill.recipe import Augment, Recipe, Term


def teacher_weights(tiny_recipe: Recipe, folder: Path) -> str:
    """Train a wide tiny network and return its weights' path."""
    wide = msgspec.structs.replace(tiny_recipe, student=msgspec.structs.replace(tiny_recipe.student, args={"width": 8}))
    run.distill(wide, folder)
    return str(folder / run.STUDENT)


@pytest.fixture
def taught(tiny_recipe: Recipe, tmp_path: Path) -> Recipe:
    """One epoch of a student with a trained teacher, mixed views and a cache in the test's folder."""
    weights = teacher_weights(tiny_recipe, tmp_path / "teacher")
    return msgspec.structs.replace(
        tiny_recipe,
        data=msgspec.structs.replace(tiny_recipe.data, augment=Augment(flip=True, shift=0.1, noise=0.02, mixup=0.4, cutmix=1.0)),
        teacher=recipe.Teacher(model="python:tiny_network:make", args={"width": 8}, weights=weights, gate=False),
        distill=(Term(loss="kd", weight=0.9, temperature=2.0), Term(loss="cross_entropy", weight=0.1)),
        train=msgspec.structs.replace(tiny_recipe.train, epochs=1),
        cache=recipe.Cache(folder=str(tmp_path / "views")),
    )


def with_cache(wanted: Recipe, **keys: Any) -> Recipe:
    return msgspec.structs.replace(wanted, cache=msgspec.structs.replace(wanted.cache, **keys))


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The loss of every step from now on."""
    seen: list[float] = []
    forward = Learner.forward

    def noted(self: Learner, *given: Any) -> Any:
        result = forward(self, *given)
        seen.append(result[0].item())
        return result

    monkeypatch.setattr(Learner, "forward", noted)
    return seen


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of each batch that the teacher is asked about from now on."""
    seen: list[int] = []
    answer = NetworkTeacher.answer

    def noted(self: NetworkTeacher, batch: Any, layers: Any = ()) -> Any:
        seen.append(len(batch.positions))
        return answer(self, batch, layers)

    monkeypatch.setattr(NetworkTeacher, "answer", noted)
    return seen


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 1e-3), ("fp32", 1e-5)])
def test_every_step_of_an_epoch_is_as_with_the_teacher_itself(
    taught: Recipe, tmp_path: Path, losses: list[float], precision: str, tolerance: float
) -> None:
    run.distill(with_cache(taught, enabled=False), tmp_path / "online")
    online = losses.copy()
    losses.clear()
    results = run.distill(with_cache(taught, precision=precision), tmp_path / "cached")
    assert len(online) == len(losses) >= 5
    assert losses == pytest.approx(online, abs=tolerance)
    assert results["cache"]["views"] == 1
    assert results["cache"]["teacher_forwards"] == results["data"]["images"]["train"]


def test_a_second_student_asks_the_teacher_nothing(taught: Recipe, tmp_path: Path, asked: list[int]) -> None:
    run.distill(taught, tmp_path / "first")
    assert sum(asked) > 0
    asked.clear()
    other = msgspec.structs.replace(taught, student=msgspec.structs.replace(taught.student, args={"width": 6}))
    results = run.distill(other, tmp_path / "second")
    assert asked == []
    assert results["cache"]["teacher_forwards"] == 0
    assert results["teacher"]["accuracy"] > 0


def test_caches_hold_what_their_teachers_say(taught: Recipe, tmp_path: Path) -> None:
    run.distill(taught, tmp_path / "run")
    (path,) = survey.find(cached.folder_of(taught), "all")
    verdict = verify.verify(path, sample=64, seed=0)
    assert verdict.problem is None
    assert 30 < verdict.compared <= 64
    assert verdict.difference <= verdict.allowed < 0.1
    file = path / "logits.bin"
    rows = np.fromfile(file, np.float16)
    rows[:] = rows + 1
    rows.tofile(file)
    assert "an answer differs by" in (verify.verify(path, sample=64, seed=0).problem or "")


def test_top_k_caches_hold_too(taught: Recipe, tmp_path: Path) -> None:
    wanted = with_cache(taught, top_k=3)
    run.distill(wanted, tmp_path / "run")
    (path,) = survey.find(cached.folder_of(wanted), "all")
    assert verify.verify(path, sample=64).problem is None


def test_other_weights_under_the_same_name_are_found_by_verify(taught: Recipe, tmp_path: Path) -> None:
    run.distill(taught, tmp_path / "run")
    (path,) = survey.find(cached.folder_of(taught), "all")
    import safetensors.torch
    from safetensors import safe_open

    file = taught.teachers[0].weights
    assert file is not None
    with safe_open(file, "pt") as opened:
        card = opened.metadata()
    tensors = {name: tensor + 0.1 if tensor.is_floating_point() else tensor for name, tensor in safetensors.torch.load_file(file).items()}
    safetensors.torch.save_file(tensors, file, card)
    problem = verify.verify(path, sample=8).problem
    assert problem is not None
    assert problem.startswith("what it was made from has changed: teacher.")


def test_a_teacher_that_is_gone_is_a_finding(taught: Recipe, tmp_path: Path) -> None:
    run.distill(taught, tmp_path / "run")
    (path,) = survey.find(cached.folder_of(taught), "all")
    Path(taught.teachers[0].weights or "").unlink()
    assert run.STUDENT in (verify.verify(path, sample=8).problem or "")


def test_no_views_are_refused_by_the_recipe(taught: Recipe) -> None:
    with pytest.raises(RecipeError, match=r"data\.views"):
        recipe.decode(recipe.encode(taught), overrides=["data.views=0"])


@pytest.mark.slow
def test_resumed_trainings_use_the_same_cache(taught: Recipe, tmp_path: Path, asked: list[int]) -> None:
    wanted = msgspec.structs.replace(taught, train=msgspec.structs.replace(taught.train, epochs=2, checkpoint_steps=3))

    class StopError(Exception):
        pass

    def stop(text: str, done: int, total: int) -> None:
        if text.startswith("training") and done == 5:
            raise StopError

    with pytest.raises(StopError):
        run.distill(wanted, tmp_path / "run", progress=stop)
    asked.clear()
    results = run.distill(wanted, tmp_path / "run", resume=True)
    assert results["cache"]["views_filled_before"] == 1
    assert results["cache"]["teacher_forwards"] == results["data"]["images"]["train"]
    straight = run.distill(wanted, tmp_path / "straight")
    assert straight["student"]["accuracy"] == results["student"]["accuracy"]


@pytest.mark.parametrize(("name", "message"), [("", "fits 2 caches"), ("zz", "'zz' fits no cache")])
def test_a_cache_is_found_by_its_first_digits_only_if_it_is_one(tmp_path: Path, name: str, message: str) -> None:
    for digit in "ab":
        (tmp_path / (digit * 64)).mkdir()
    assert survey.find(tmp_path, "a") == [tmp_path / ("a" * 64)]
    with pytest.raises(DataError, match=f"{message}.*known: aaaaaaaaaaaa, bbbbbbbbbbbb"):
        survey.find(tmp_path, name)


def test_a_mapped_answer_does_not_change_with_the_batch(taught: Recipe, tmp_path: Path) -> None:
    run.distill(taught, tmp_path / "run")
    (path,) = survey.find(cached.folder_of(taught), "all")
    store = cached.Store(path)
    decode = lambda rows: torch.from_numpy(store.index.form.decode(rows))  # noqa: E731
    together = decode(store.logits.read(0, np.array([3, 1, 2])))
    assert torch.equal(together[1:2], decode(store.logits.read(0, np.array([1]))))


def test_damaged_answers_on_the_validation_images_are_asked_for_again(taught: Recipe, tmp_path: Path, asked: list[int]) -> None:
    first = run.distill(taught, tmp_path / "first")
    files = sorted((tmp_path / "views" / "plain").iterdir())
    assert len(files) == 2
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    asked.clear()
    second = run.distill(taught, tmp_path / "second")
    assert asked == [100, 100]
    assert first["teacher"] == second["teacher"]
