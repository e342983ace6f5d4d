"""Cached answers are the teacher's own; each view is asked about once, by whoever comes first."""

import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from edgedistill import recipe
from edgedistill.bundle import Preprocess
from edgedistill.distill.cache import Cached, Surroundings, cached
from edgedistill.distill.cache.rows import CHUNK
from edgedistill.distill.images import GreyArray, ImageSet
from edgedistill.distill.loader import ViewBatch, Views, collate
from edgedistill.distill.teachers.teacher import Answers
from edgedistill.errors import DataError, ModelError
from edgedistill.recipe import Augment, Recipe, Term

CLASSES = ("a", "b", "c", "d", "e")
SIZE = 600
SPEC = Preprocess(height=6, width=6, resize="crop")
AUGMENT = Augment(flip=True, noise=0.05)


class LinearTeacher:
    """Answers with a linear map of the pixels; counts the images that it was asked about, and can fail at one of them."""

    def __init__(self, weights: str = "w", *, seed: int = 0, classes: int = len(CLASSES)) -> None:
        self.matrix = torch.randn(108, classes, generator=torch.Generator().manual_seed(seed)) / 10
        self.weights = weights
        self.asked: list[int] = []
        self.fails_after: int | None = None

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"model": "linear", "weights": self.weights}

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"model": "linear", "sha256": "", "licence": "MIT", "input_size": 6, "parameters": 1, "macs": 1}

    def to(self, device: torch.device) -> None:
        """There is nothing to move."""

    def answer(self, batch: ViewBatch, layers: Sequence[str] = ()) -> Answers:
        if self.fails_after is not None and len(self.asked) >= self.fails_after:
            raise KeyboardInterrupt
        self.asked += batch.positions.tolist()
        pixels = batch.views.reshape(len(batch.views), -1).float() / 32
        return Answers(pixels @ self.matrix + 3, {name: pixels.view(-1, 6, 6, 3).permute(0, 3, 1, 2) for name in layers})


class FakeFabric:
    """One of several processes, played by threads that meet at a barrier."""

    def __init__(self, rank: int = 0, world: int = 1, meeting: threading.Barrier | None = None) -> None:
        self.global_rank, self.world_size, self.meeting = rank, world, meeting

    def barrier(self) -> None:
        if self.meeting is not None:
            self.meeting.wait(timeout=20)


def images(count: int = SIZE) -> ImageSet:
    pixels = np.random.default_rng(1).integers(0, 256, (count, 6, 6), np.uint8)
    return ImageSet.of(GreyArray(pixels), np.arange(count) % len(CLASSES), CLASSES)


def views(view: int = 0, *, seed: int = 1, augment: Augment = AUGMENT, spec: Preprocess = SPEC, data: ImageSet | None = None) -> Views:
    return Views(data or images(), seed=seed, view=view, augment=augment, spec=spec)


@pytest.fixture
def wanted(tmp_path: Path) -> Recipe:
    """A recipe of 3 epochs with its cache in the test's folder."""
    text = f"""
        name = "t"
        [data]
        source = "embedded"
        [student]
        model = "python:tiny_network:make"
        [teacher]
        model = "python:tiny_network:make"
        [[distill]]
        loss = "kd"
        [train]
        epochs = 3
        [cache]
        folder = "{tmp_path}"
    """
    return recipe.decode(text)


def changed(wanted: Recipe, **keys: object) -> Recipe:
    return msgspec.structs.replace(wanted, cache=msgspec.structs.replace(wanted.cache, **keys))


def opened(wanted: Recipe, teacher: LinearTeacher, told: list[str] | None = None, fabric: FakeFabric | None = None) -> Cached:
    say = told.append if told is not None else lambda text: None
    return Cached(teacher, wanted, Surroundings(fabric or FakeFabric(), say=say))  # type: ignore[arg-type]


def batch_of(shown: Views, positions: Sequence[int]) -> ViewBatch:
    return collate([shown[i] for i in positions])


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 4e-3), ("fp32", 1e-6)])
def test_answers_are_the_teacher_s_up_to_a_constant_a_sample(wanted: Recipe, precision: str, tolerance: float) -> None:
    teacher, shown = LinearTeacher(), views(1)
    source = opened(changed(wanted, precision=precision), teacher)
    source.prepare(shown, 1)
    batch = batch_of(shown, [5, 599, 0, 256, 255])
    kept, asked = source.answer(batch, 1).logits, LinearTeacher().answer(batch).logits
    assert kept.dtype == torch.float32
    assert torch.allclose(kept, asked - asked.mean(1, keepdim=True), atol=tolerance)


def test_each_view_is_asked_about_once_and_a_second_student_asks_nothing(wanted: Recipe) -> None:
    first, second = LinearTeacher(), LinearTeacher()
    for teacher in (first, second):
        source = opened(wanted, teacher)
        for epoch in (0, 1, 0):
            source.prepare(views(epoch), epoch)
            source.answer(batch_of(views(epoch), [1, 2]), epoch)
    assert sorted(first.asked) == sorted([*range(SIZE)] * 2)
    assert second.asked == []
    assert source.facts()["teacher_forwards"] == 0
    assert source.facts()["views"] == source.facts()["views_filled_before"] == 2


def test_without_augmentation_all_epochs_and_seeds_share_one_view(wanted: Recipe) -> None:
    teacher = LinearTeacher()
    for seed in (1, 2):
        source = opened(wanted, teacher)
        for epoch in (0, 1, 2):
            source.prepare(views(epoch, seed=seed, augment=Augment()), epoch)
            answers = source.answer(batch_of(views(augment=Augment()), [3]), epoch)
    assert teacher.asked == [*range(SIZE)]
    assert answers.logits.shape == (1, 5)


def test_a_killed_fill_goes_on_at_the_first_missing_chunk(wanted: Recipe) -> None:
    teacher = LinearTeacher()
    teacher.fails_after = CHUNK + 100
    with pytest.raises(KeyboardInterrupt):
        opened(wanted, teacher).prepare(views(), 0)
    again = LinearTeacher()
    source = opened(wanted, again)
    source.prepare(views(), 0)
    assert again.asked == [*range(CHUNK, SIZE)]
    everything = batch_of(views(), range(SIZE))
    whole = LinearTeacher().answer(everything).logits
    assert torch.allclose(source.answer(everything, 0).logits, whole - whole.mean(1, keepdim=True), atol=4e-3)
    assert source.facts()["teacher_forwards"] == SIZE - CHUNK


def test_bits_do_not_depend_on_the_number_of_processes(wanted: Recipe, tmp_path: Path) -> None:
    alone, pair = changed(wanted, folder=str(tmp_path / "alone")), changed(wanted, folder=str(tmp_path / "pair"))
    opened(alone, LinearTeacher()).prepare(views(), 0)
    in_processes(pair, [LinearTeacher(), LinearTeacher()])
    assert logits_of(tmp_path / "alone") == logits_of(tmp_path / "pair")


def logits_of(folder: Path) -> bytes:
    return next(folder.glob("*/logits.bin")).read_bytes()


def in_processes(wanted: Recipe, teachers: Sequence[LinearTeacher]) -> list[Cached]:
    """Prepare view 0 by as many processes of one training as there are teachers, played by threads."""
    meeting = threading.Barrier(len(teachers))
    sources = [opened(wanted, teacher, None, FakeFabric(i, len(teachers), meeting)) for i, teacher in enumerate(teachers)]
    run_together([lambda source=source: source.prepare(views(), 0) for source in sources])
    return sources


def run_together(works: Sequence[Any]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()


def test_processes_of_a_training_share_the_chunks_without_gap_or_overlap(wanted: Recipe) -> None:
    teachers = [LinearTeacher(), LinearTeacher()]
    sources = in_processes(wanted, teachers)
    assert teachers[0].asked == [*range(CHUNK), *range(2 * CHUNK, SIZE)]
    assert teachers[1].asked == [*range(CHUNK, 2 * CHUNK)]
    assert sources[0].facts()["teacher_forwards"] == SIZE
    assert all(source.answer(batch_of(views(), [300]), 0).logits.shape == (1, 5) for source in sources)


def test_two_students_at_once_ask_once(wanted: Recipe) -> None:
    """The second one waits for the first, and says so."""
    teachers, waits = [LinearTeacher(), LinearTeacher()], list[str]()

    def slow(batch: ViewBatch, layers: Sequence[str] = ()) -> Answers:
        time.sleep(0.1)
        return LinearTeacher.answer(teachers[0], batch, layers)

    teachers[0].answer = slow  # type: ignore[method-assign]
    around = Surroundings(FakeFabric(), progress=lambda text, done, total: waits.append(text))  # type: ignore[arg-type]
    started = threading.Event()

    def second() -> None:
        started.wait(timeout=20)
        Cached(teachers[1], wanted, around).prepare(views(), 0)

    def first() -> None:
        tell = Surroundings(FakeFabric(), progress=lambda text, done, total: started.set())  # type: ignore[arg-type]
        Cached(teachers[0], wanted, tell).prepare(views(), 0)

    run_together([first, second])
    assert teachers[0].asked == [*range(SIZE)]
    assert teachers[1].asked == []
    assert "waiting for another training to fill view 0" in waits


def test_a_longer_training_uses_the_views_of_a_shorter_one(wanted: Recipe) -> None:
    opened(wanted, LinearTeacher()).prepare(views(2), 2)
    longer = msgspec.structs.replace(wanted, train=msgspec.structs.replace(wanted.train, epochs=9))
    teacher = LinearTeacher()
    source = opened(longer, teacher)
    source.prepare(views(2), 2)
    assert teacher.asked == []
    source.prepare(views(8), 8)
    assert teacher.asked == [*range(SIZE)]


OTHERS: list[tuple[str, dict[str, Any], str, str]] = [
    ("the teacher's weights", {}, "other weights", "teacher.weights"),
    ("the seed", {"seed": 2}, "w", "views.seed"),
    ("the augmentation", {"augment": Augment(flip=True, noise=0.06)}, "w", "views.augment.noise"),
    ("the size of a view", {"spec": Preprocess(height=6, width=6, resize="stretch")}, "w", "views.preprocess.resize"),
]


@pytest.mark.parametrize(("what", "other", "weights", "told"), OTHERS, ids=[what for what, *_ in OTHERS])
def test_another_fingerprint_is_another_cache_and_the_difference_is_told(
    wanted: Recipe, what: str, other: dict[str, Any], weights: str, told: str
) -> None:
    opened(wanted, LinearTeacher()).prepare(views(), 0)
    teacher, lines = LinearTeacher(weights), list[str]()
    source = opened(wanted, teacher, lines)
    source.prepare(views(**other), 0)
    assert teacher.asked == [*range(SIZE)]
    assert any(told in line and "is not used" in line for line in lines)


def test_other_images_are_another_cache(wanted: Recipe) -> None:
    teacher = LinearTeacher()
    opened(wanted, teacher).prepare(views(), 0)
    opened(wanted, teacher).prepare(views(data=images().take(np.arange(SIZE)[::-1])), 0)
    assert len(teacher.asked) == 2 * SIZE


def test_the_version_of_the_views_counts(wanted: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgedistill.distill import views as drawing

    teacher = LinearTeacher()
    opened(wanted, teacher).prepare(views(), 0)
    monkeypatch.setattr(drawing, "VERSION", 99)
    opened(wanted, teacher).prepare(views(), 0)
    assert len(teacher.asked) == 2 * SIZE


def test_the_person_is_told_which_cache_is_used_and_whether_it_was_filled(wanted: Recipe, tmp_path: Path) -> None:
    lines: list[str] = []
    opened(wanted, LinearTeacher(), lines).prepare(views(), 0)
    opened(wanted, LinearTeacher(), lines).prepare(views(), 0)
    # 3 views of 600 images with 5 numbers of 2 bytes
    assert [line.rpartition(": ")[2] for line in lines] == ["18.0 kB, empty so far", "18.0 kB, 1 of 3 views filled before"]
    assert all(line.startswith(f"view cache {tmp_path}") for line in lines)


def test_a_disk_that_is_too_small_is_refused_before_the_teacher_is_asked(wanted: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 17_999))  # type: ignore[attr-defined]
    teacher = LinearTeacher()
    with pytest.raises(DataError, match=r"needs 18\.0 kB more, 18\.0 kB are free \(18000 and 17999 bytes\)"):
        opened(wanted, teacher).prepare(views(), 0)
    assert teacher.asked == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("index.json", b"{", "has no index.json that can be read"),
        ("index.json", b'{"\xff": 1}', "has no index.json that can be read"),
        ("index.json", b'{"x": ' + b"[" * 5000, "has no index.json that can be read"),
        ("index.json", None, "has no index.json that can be read"),
        ("logits.bin", b"short", r"is damaged: logits.bin has 5 bytes and logits.done 9 flags, expected 6000 bytes and 3 flags a view"),
        ("logits.done", b"\1" * 4, "is damaged: logits.bin has 18000 bytes and logits.done 4 flags"),
    ],
)
def test_a_damaged_cache_is_refused(wanted: Recipe, tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    opened(wanted, LinearTeacher()).prepare(views(), 0)
    file = next(tmp_path.glob(f"*/{name}"))
    file.write_bytes(content) if content is not None else file.unlink()
    with pytest.raises(DataError, match=f"{message}.*edgedistill cache prune"):
        opened(wanted, LinearTeacher()).prepare(views(), 0)


def test_a_cache_under_the_name_of_another_is_refused(wanted: Recipe, tmp_path: Path) -> None:
    first = opened(wanted, LinearTeacher())
    first.prepare(views(), 0)
    second = opened(wanted, LinearTeacher("other"))
    second.prepare(views(), 0)
    names = [source.facts()["fingerprint"] for source in (first, second)]
    (tmp_path / names[1] / "index.json").write_bytes((tmp_path / names[0] / "index.json").read_bytes())
    with pytest.raises(DataError, match=r'of another teacher or of other views: teacher.weights "w" instead of "other"'):
        opened(wanted, LinearTeacher("other")).prepare(views(), 0)


def test_another_format_is_refused(wanted: Recipe, tmp_path: Path) -> None:
    opened(wanted, LinearTeacher()).prepare(views(), 0)
    file = next(tmp_path.glob("*/index.json"))
    file.write_text(file.read_text().replace('"format": 1', '"format": 7', 1))
    with pytest.raises(DataError, match="has format 7, expected 1"):
        opened(wanted, LinearTeacher()).prepare(views(), 0)


def test_a_teacher_with_other_classes_is_refused(wanted: Recipe) -> None:
    with pytest.raises(ModelError, match="the teacher answers 4 logits, the data has 5 classes"):
        opened(wanted, LinearTeacher(classes=4)).prepare(views(), 0)


def with_hint(wanted: Recipe, *, features: bool) -> Recipe:
    """Hints in epochs 0 and 1, logits in epoch 2."""
    terms = (Term(loss="hint", layers={"s": "layer"}, epochs=(0, 2)), Term(loss="kd", epochs=(2, 3)))
    return changed(msgspec.structs.replace(wanted, distill=terms), features=features)


def test_epochs_with_terms_on_features_ask_the_teacher_itself(wanted: Recipe) -> None:
    teacher, recipe_ = LinearTeacher(), with_hint(wanted, features=False)
    source = opened(recipe_, teacher)
    source.prepare(views(), 0)
    assert teacher.asked == []
    answers = source.answer(batch_of(views(), [4, 2]), 0)
    assert teacher.asked == [4, 2]
    assert answers.features["layer"].shape == (2, 3, 6, 6)
    source.prepare(views(2), 2)
    source.answer(batch_of(views(2), [4, 2]), 2)
    assert teacher.asked == [4, 2, *range(SIZE)]
    assert source.facts()["teacher_forwards"] == SIZE + 2


def test_features_are_kept_when_asked_and_their_size_is_told_first(wanted: Recipe) -> None:
    lines: list[str] = []
    teacher, recipe_ = LinearTeacher(), with_hint(wanted, features=True)
    source = opened(recipe_, teacher, lines)
    source.prepare(views(), 0)
    batch = batch_of(views(), [599, 3])
    kept, asked = source.answer(batch, 0), LinearTeacher().answer(batch, ["layer"])
    assert torch.allclose(kept.features["layer"], asked.features["layer"], rtol=1e-3)
    # 3 views of 600 images with 108 numbers of 2 bytes
    assert any("features of layer take 388.8 kB" in line for line in lines)
    second = LinearTeacher()
    again = opened(recipe_, second)
    again.prepare(views(), 0)
    assert torch.equal(again.answer(batch, 0).features["layer"], kept.features["layer"])
    assert second.asked == []


def test_features_are_added_to_a_cache_of_logits(wanted: Recipe) -> None:
    opened(wanted, LinearTeacher()).prepare(views(), 0)
    teacher = LinearTeacher()
    source = opened(with_hint(wanted, features=True), teacher)
    source.prepare(views(), 0)
    assert teacher.asked == [0, *range(SIZE)]
    assert source.answer(batch_of(views(), [1]), 0).features["layer"].shape == (1, 3, 6, 6)


def test_the_default_folder_is_the_user_s_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cached.default_folder().name == "views"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cached.default_folder() == tmp_path / ".cache" / "edgedistill" / "views"


def filled_by(folder: str, *, workers: int) -> bytes:
    """Return the file of a view of mixed images that was filled with worker processes."""
    text = f"""
        name = "t"
        data = {{source = "embedded"}}
        student = {{model = "python:tiny_network:make"}}
        teacher = {{model = "python:tiny_network:make"}}
        distill = [{{loss = "kd"}}]
        train = {{epochs = 1, workers = {workers}}}
        cache = {{folder = "{folder}"}}
    """
    shown = views(augment=Augment(flip=True, noise=0.05, mixup=0.3, cutmix=1.0))
    opened(recipe.decode(text), LinearTeacher()).prepare(shown, 0)
    return logits_of(Path(folder))


@pytest.mark.slow
def test_any_number_of_workers_fills_the_same_bits(tmp_path: Path) -> None:
    """In a process of its own: workers are forked, and other tests' converters leave threads here."""
    script = "import sys, test_cached as t; assert t.filled_by(sys.argv[1], workers=0) == t.filled_by(sys.argv[2], workers=2)"
    folders = [str(tmp_path / name) for name in "ab"]
    subprocess.run([sys.executable, "-W", "error", "-c", script, *folders], cwd=Path(__file__).parent, check=True)
