"""Training for the demo: both students at once, resumed or skipped, and a control that fails."""

import json
from pathlib import Path

import msgspec
import pytest
from tiny_network import RECIPE

from edgedistill import recipe
from edgedistill.demo import students
from edgedistill.demo.students import Demo
from edgedistill.distill import loop, run
from edgedistill.errors import ModelError
from edgedistill.recipe import Recipe


@pytest.fixture
def tiny() -> Recipe:
    # a network that the background process can import too
    return recipe.decode(RECIPE, overrides=["student.model=timm:mobilenetv3_small_050", "student.input_size=28"])


class Listener:
    """Keeps what the demo says and how far it says to be."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.bars: dict[str, tuple[int, int]] = {}

    def say(self, text: str) -> None:
        self.lines.append(text)

    def progress(self, text: str, done: int, total: int) -> None:
        self.bars[text] = (done, total)


def demo_in(out: Path) -> tuple[Demo, Listener]:
    heard = Listener()
    return Demo(out, None, False, False, heard.say, heard.progress), heard


def test_train_then_skip(tiny: Recipe, tmp_path: Path) -> None:
    job, heard = demo_in(tmp_path)
    first = students.train(job, tiny, "student")
    assert heard.lines == []
    assert students.train(job, tiny, "student") == first
    assert heard.lines == ["student: trained before by this recipe, skipped"]


def test_another_recipe_is_trained_anew_in_the_same_folder(tiny: Recipe, tmp_path: Path) -> None:
    job, heard = demo_in(tmp_path)
    students.train(job, tiny, "student")
    (tmp_path / "student" / "notes.txt").write_text("mine")
    results = students.train(job, msgspec.structs.replace(tiny, seed=3), "student")
    assert results["seed"] == 3
    assert heard.lines == []
    assert (tmp_path / "student" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("same", [True, False])
def test_room_is_made_only_for_another_recipe(tiny: Recipe, tmp_path: Path, same: bool) -> None:
    (tmp_path / run.RECIPE).write_text(recipe.encode(tiny if same else msgspec.structs.replace(tiny, seed=9)))
    (tmp_path / loop.CHECKPOINT).write_bytes(b"state")
    students.make_room(tmp_path, tiny)
    assert (tmp_path / loop.CHECKPOINT).exists() is same


@pytest.mark.slow
def test_the_control_in_a_process_of_its_own_is_the_same_as_here(tiny: Recipe, tmp_path: Path) -> None:
    job, heard = demo_in(tmp_path)
    with students.in_background(job, tiny, "plain") as wait:
        wait()
    here = run.distill(tiny, tmp_path / "here")
    there = json.loads((tmp_path / "plain" / run.RESULTS).read_text())
    assert there["student"]["accuracy"] == here["student"]["accuracy"]
    assert (tmp_path / "plain" / run.STUDENT).read_bytes() == (tmp_path / "here" / run.STUDENT).read_bytes()
    assert heard.bars["plain: epochs"] == (1, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "plain"]


@pytest.mark.slow
def test_a_failing_control_is_an_error_with_its_message(tiny: Recipe, tmp_path: Path) -> None:
    job, _ = demo_in(tmp_path)
    broken = msgspec.structs.replace(tiny, data=msgspec.structs.replace(tiny.data, source="folder:/nowhere"))
    with (
        pytest.raises(ModelError, match=r"(?s)training plain ended with code 1: .*nowhere does not exist"),
        students.in_background(job, broken, "plain") as wait,
    ):
        wait()


@pytest.mark.slow
def test_leaving_early_ends_the_process(tiny: Recipe, tmp_path: Path) -> None:
    job, _ = demo_in(tmp_path)
    long = msgspec.structs.replace(tiny, train=msgspec.structs.replace(tiny.train, epochs=1000))
    with pytest.raises(KeyboardInterrupt), students.in_background(job, long, "plain"):
        raise KeyboardInterrupt
    assert not (tmp_path / "plain" / run.STUDENT).exists()


def test_epochs_done_counts_lines(tmp_path: Path) -> None:
    assert students.epochs_done(tmp_path) == 0
    (tmp_path / loop.METRICS).write_text("{}\n{}\n")
    assert students.epochs_done(tmp_path) == 2
