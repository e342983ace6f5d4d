"""The recipes that are shipped, one a method: each is short, is what its name says, and runs."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgedistill import recipe
from edgedistill.distill import schedules
from edgedistill.distill.losses import LOSSES, check_terms
from edgedistill.recipe import Recipe, Term, is_active

FOLDER = Path(__file__).parents[1] / "models" / "recipes"
FILES = sorted(FOLDER.glob("*.toml"))
every_recipe = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def test_there_is_a_recipe_for_every_loss() -> None:
    named = {term.loss for file in FILES for term in recipe.load(file).distill}
    assert named == set(LOSSES)


def test_there_is_a_recipe_for_every_switch_of_the_methods() -> None:
    recipes = [recipe.load(file) for file in FILES]
    terms = [term for one in recipes for term in one.distill]
    assert any(term.standardize for term in terms)
    assert any(term.label_smoothing for term in terms)
    assert any(term.epochs and term.epochs[0] > 0 for term in terms)  # a stage after another
    assert {type(one.schedule) for one in recipes} >= {recipe.BornAgain, recipe.Recursive}


@every_recipe
def test_a_recipe_says_its_method_first_is_short_and_named_like_its_file(file: Path) -> None:
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert lines[0].startswith("# ")
    assert len(lines) <= 20
    assert recipe.load(file).name == file.stem


@every_recipe
def test_a_recipe_s_terms_can_be_used_and_all_count_at_some_time(file: Path) -> None:
    wanted = recipe.load(file)
    check_terms(wanted.distill, has_teacher=bool(wanted.teachers) or wanted.schedule is not None)
    for term in wanted.distill:
        assert any(is_active(term, epoch) for epoch in range(wanted.train.epochs)), f"{term} counts in no epoch"


@every_recipe
def test_a_recipe_s_files_are_shipped(file: Path) -> None:
    wanted = recipe.load(file)
    assert wanted.data.source == "embedded"
    for path in paths_in(tomllib.loads(file.read_text(encoding="utf-8"))):
        assert (FOLDER / path).resolve().exists(), path


def paths_in(value: Any) -> Iterator[str]:
    """Yield what looks like a path in a recipe's tables."""
    if isinstance(value, str) and "/" in value:
        yield value.split(":", 1)[-1]
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from paths_in(inner)


@every_recipe
def test_methods_have_the_plain_recipe_s_data_student_and_budget(file: Path) -> None:
    """What differs between two recipes is the method, so that their figures can be compared."""
    plain, method = recipe.load(FOLDER / "plain.toml"), recipe.load(file)
    for table, keys in (("data", ("source", "augment", "validation")), ("student", ("model", "input_size")), ("train", ("epochs", "lr"))):
        for key in keys:
            assert getattr(getattr(method, table), key) == getattr(getattr(plain, table), key), f"{table}.{key}"


@pytest.mark.slow
@every_recipe
def test_a_recipe_runs(file: Path, tmp_path: Path) -> None:
    wanted = recipe.load(file, overrides=[f'cache.folder="{tmp_path / "cache"}"', "train.threads=1", "train.accelerator=cpu"])
    results = schedules.distill(few_images(wanted.smoke()), tmp_path / "run")
    assert 0 <= results["student"]["accuracy"] <= 1
    assert (tmp_path / "run" / "student.safetensors").is_file()
    logged: set[str] = set()
    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        logged |= set(msgspec.json.decode(line)["terms"])
    assert {name.rpartition("-")[0] if name[-1].isdigit() else name for name in logged} == {term.loss for term in wanted.distill}


def few_images(wanted: Recipe) -> Recipe:
    """Return the recipe with a fraction of the images to look at after each epoch."""
    return msgspec.structs.replace(wanted, data=msgspec.structs.replace(wanted.data, validation=0.01, test_limit=100))


def test_a_term_that_never_counts_would_be_found() -> None:
    assert not any(is_active(Term(loss="kd", epochs=(8, 9)), epoch) for epoch in range(8))
