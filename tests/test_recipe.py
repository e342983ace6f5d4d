"""What a person may write into a recipe, what is refused with which words, and that nothing is lost on the way to disk and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill import recipe
from edgedistill.errors import RecipeError
from edgedistill.recipe import Augment, Data, Export, Recipe, Student, Teacher, Term, Train, decode, digest, encode, load

MINIMAL = """
name = "tiny"
[data]
source = "embedded"
[student]
model = "timm:mobilenetv2_035"
[train]
epochs = 2
"""
WHOLE = """
name = "whole-1.0"
seed = 7
[data]
source = "folder:images"
root = "downloads"
validation = 0.2
[data.augment]
flip = true
scale = [0.8, 1.25]
[teacher]
model = "timm:resnet10t"
weights = "weights/teacher.safetensors"
strides = [1, 2]
[student]
model = "timm:mobilenetv2_035"
weights = "pretrained"
args = {drop_rate = 0.1, names = ["a", "b"]}
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
[[distill]]
loss = "kd"
weight = 0.9
temperature = 4.0
[[distill]]
loss = "cross_entropy"
weight = 0.1
[train]
epochs = 3
lr = 1e-2
[export]
formats = ["tflite"]
"""


def test_a_minimal_recipe_is_plain_training() -> None:
    found = decode(MINIMAL)
    assert found == Recipe(name="tiny", data=Data(source="embedded"), student=Student(model="timm:mobilenetv2_035"), train=Train(epochs=2))
    assert found.distill == (Term(loss="cross_entropy"),)
    assert found.teacher is None
    assert found.plain() == found


def test_everything_that_is_written_is_read() -> None:
    found = decode(WHOLE)
    assert found.data.augment == Augment(flip=True, scale=(0.8, 1.25))
    assert found.teacher == Teacher(model="timm:resnet10t", weights="weights/teacher.safetensors", strides=[1, 2])
    assert found.student.args == {"drop_rate": 0.1, "names": ["a", "b"]}
    assert found.distill == (Term(loss="kd", weight=0.9, temperature=4.0), Term(loss="cross_entropy", weight=0.1))
    assert found.export == Export(formats=("tflite",))


def test_the_default_normalization_makes_int8_pixels_exact() -> None:
    """(pixel/255 - mean) / std = (pixel - 128) / 127.5."""
    for pixel in (0, 128, 255):
        assert (pixel / 255 - recipe.HALF_MEAN[0]) / recipe.HALF_STD[0] == pytest.approx((pixel - 128) / 127.5)


def test_plain_is_the_same_budget_without_a_teacher() -> None:
    distilled = decode(WHOLE)
    control = distilled.plain()
    assert control.teacher is None
    assert control.distill == (Term(loss="cross_entropy"),)
    for part in ("name", "seed", "data", "student", "train", "export"):
        assert getattr(control, part) == getattr(distilled, part)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], {"train_limit": 128, "test_limit": 256, "batch_size": 16, "calibration": 32}),
        (["train.batch_size=4"], {"train_limit": 32, "test_limit": 256, "batch_size": 4, "calibration": 32}),
        (["data.train_limit=50", "data.test_limit=20"], {"train_limit": 50, "test_limit": 20, "batch_size": 16, "calibration": 32}),
        (["data.train_limit=9999", "export.calibration=8"], {"train_limit": 128, "test_limit": 256, "batch_size": 16, "calibration": 8}),
    ],
)
def test_smoke_only_ever_cuts_down(overrides: list[str], expected: dict[str, int]) -> None:
    small = decode(WHOLE, overrides=overrides).smoke()
    found = {
        "train_limit": small.data.train_limit,
        "test_limit": small.data.test_limit,
        "batch_size": small.train.batch_size,
        "calibration": small.export.calibration,
    }
    assert found == expected
    assert (small.train.epochs, small.train.warmup_epochs, small.export.parity_images) == (1, 0, 256)
    assert small.distill == decode(WHOLE).distill


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.epoch=3", "unknown key 'train.epoch'. Did you mean 'epochs' or 'warmup_epochs'? Known here: epochs, batch_size"),
        ("tran.epochs=3", "unknown key 'tran'. Did you mean 'train'? Known here: name, seed, data"),
        ("data.augment.flipp=true", "unknown key 'data.augment.flipp'. Did you mean 'flip'?"),
        ("teacher.modle='x'", "unknown key 'teacher.modle'. Did you mean 'model'"),
        ("distill.0.temprature=2", "unknown key 'distill[0].temprature'. Did you mean 'temperature'?"),
        ("xyzzy=1", "unknown key 'xyzzy'. Known here"),
        ("train.epochs=three", "train.epochs = 'three': expected `int`, got `str`"),
        ("train.epochs=0", "train.epochs = 0: expected `int` >= 1"),
        ("train.epochs=2.5", "train.epochs = 2.5: expected `int`, got `float`"),
        ("train.epochs=true", "train.epochs = True: expected `int`, got `bool`"),
        ("train.lr=0", "train.lr = 0: expected `float` > 0.0"),
        ("train.lr=inf", "train.lr = inf: expected a finite number"),
        ("student.mean=[0.5, nan, 0.5]", "student.mean[1] = nan: expected a finite number"),
        ("student.args.when=2026-01-02", "student.args.when = 2026-01-02: expected no date"),
        ("train.precision=fp8", "train.precision = 'fp8': expected one of '32-true', '16-mixed', 'bf16-mixed'."),
        ("student.resize=crp", "student.resize = 'crp': expected one of 'stretch', 'crop'. Did you mean 'crop'?"),
        ("student.strides=[1, 3]", "student.strides[1] = 3: expected one of 1, 2."),
        ("export.formats=['onxx']", "export.formats[0] = 'onxx': expected one of 'onnx', 'tflite'. Did you mean 'onnx'?"),
        ("export.parity_images=10", "export.parity_images = 10: expected `int` >= 256"),
        ("data.validation=1", "data.validation = 1: expected `float` < 1.0"),
        ("data.augment.scale=[1.2, 0.8]", "data.augment: scale must be [smallest, largest], got [1.2, 0.8]"),
        ("student.mean=[0.1, 0.2]", "student.mean: expected `array` of length 3, got 2"),
        ("teacher.mean=[0.1, 0.2, 0.3]", "teacher: mean and std must be given together"),
        ("student.std=[0.1, 0, 0.3]", "student: std must be above 0, got [0.1, 0.0, 0.3]"),
        ("distill=[]", "distill needs at least one term with a weight above 0"),
        ("distill=[{loss='kd', weight=0}]", "distill needs at least one term with a weight above 0"),
        ("name=''", "name = '': expected `str` matching"),
        ("name='../x'", "name = '../x': expected `str` matching"),
        ('name="x\\n"', "name = 'x\\n': expected `str` matching"),
        ("seed=-1", "seed = -1: expected `int` >= 0"),
        ("train=3", "train = 3: expected `object`, got `int`"),
        ("train.epochs=" + "9" * 5000, "expected `int`, got `str`"),
        ("train.epochs=" + "[" * 5000, "expected `int`, got `str`"),
        ("student.args." + "a." * 5000 + "a=1", "nested too deeply"),
    ],
)
def test_what_is_refused_and_how(override: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        decode(WHOLE, where="some/recipe.toml", overrides=[override])
    assert said in str(caught.value)
    assert str(caught.value).startswith("some/recipe.toml: ")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("section", ["data", "student", "train"])
def test_missing_sections_are_named(section: str) -> None:
    text = "\n".join(part for part in MINIMAL.split("[") if not part.startswith(section))
    text = text.replace("data]", "[data]").replace("student]", "[student]").replace("train]", "[train]")
    with pytest.raises(RecipeError, match=f"missing required field `{section}`"):
        decode(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("name = ", id="no value"),
        pytest.param("[data\n", id="open bracket"),
        pytest.param("a = 1\na = 2", id="key twice"),
        pytest.param("a = " + "9" * 5000, id="huge integer"),
        pytest.param("a = " + "[" * 5000, id="nested without end"),
        pytest.param("a = 2026-13-45", id="no such date"),
    ],
)
def test_what_is_not_toml(text: str) -> None:
    with pytest.raises(RecipeError, match=r"some/recipe\.toml is not TOML"):
        decode(text, where="some/recipe.toml")


@given(st.text(max_size=60) | st.text(alphabet='[]{}=."#\n 1aτ', max_size=60))
def test_arbitrary_text_raises_nothing_but_recipe_errors(text: str) -> None:
    with pytest.raises(RecipeError):
        decode(text)


@pytest.mark.parametrize(
    ("overrides", "path", "expected"),
    [
        (["train.epochs=9"], "train.epochs", 9),
        (["train.epochs=9", "train.epochs=4"], "train.epochs", 4),
        (["train.lr = 0.5"], "train.lr", 0.5),
        (["seed=3"], "seed", 3),
        (["student.resize=stretch"], "student.resize", "stretch"),
        (["student.resize='stretch'"], "student.resize", "stretch"),
        (["data.source=torchvision:CIFAR10"], "data.source", "torchvision:CIFAR10"),
        (["data.augment.flip=false"], "data.augment.flip", False),
        (["data.augment.scale=[0.5, 2]"], "data.augment.scale", (0.5, 2.0)),
        (["distill.1.weight=0.25"], "distill.1.weight", 0.25),
        (["distill.0={loss='kd', weight=2.0}"], "distill.0.weight", 2.0),
        (["teacher.licence=Apache-2.0"], "teacher.licence", "Apache-2.0"),
        (["student.args.width=2"], "student.args.width", 2),
        (["student.args={}"], "student.args", {}),
        (["teacher.model=a=b"], "teacher.model", "a=b"),
        (["teacher.licence=1\nx = 2"], "teacher.licence", "1\nx = 2"),
        (["teacher.licence="], "teacher.licence", ""),
    ],
)
def test_overrides(overrides: list[str], path: str, expected: Any) -> None:
    node: Any = decode(WHOLE, overrides=overrides)
    for step in path.split("."):
        node = node[int(step)] if step.isdecimal() else node[step] if isinstance(node, dict) else getattr(node, step)
    assert node == expected


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.epochs", "--set 'train.epochs' is not KEY=VALUE; write for example --set train.epochs=3"),
        ("=3", "is not KEY=VALUE"),
        ("train.=3", "is not KEY=VALUE"),
        (".epochs=3", "is not KEY=VALUE"),
        ("", "is not KEY=VALUE"),
        ("train.epochs.x=3", "--set train.epochs.x: 'epochs' is a value, it has no keys below it"),
        ("distill.2.weight=1", "--set distill.2.weight: '2' is not an index of a list of 2"),
        ("distill.-1.weight=1", "'-1' is not an index of a list of 2"),
        ("distill.kd.weight=1", "'kd' is not an index of a list of 2"),
        ("distill.²=1", "'²' is not an index of a list of 2"),
        ("distill." + "0" * 5000 + "=1", "is not an index of a list of 2"),
    ],
)
def test_overrides_that_cannot_be_used(override: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        decode(WHOLE, overrides=[override])
    assert said in str(caught.value)


@given(st.text(max_size=30) | st.from_regex(r"(train|distill|student|x)(\.(epochs|0|args|weight|model)){0,3}=.{0,8}", fullmatch=True))
def test_arbitrary_overrides_raise_nothing_but_recipe_errors(override: str) -> None:
    try:
        found = decode(WHOLE, overrides=[override])
    except RecipeError:
        return
    assert isinstance(found, Recipe)


def test_paths_start_from_the_recipes_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "recipe.toml").write_text(WHOLE)
    monkeypatch.chdir(tmp_path)
    found = load(Path("recipes/recipe.toml"), overrides=["teacher.weights=../up.safetensors"])
    assert found.data.source == f"folder:{tmp_path}/recipes/images"
    assert found.data.root == f"{tmp_path}/recipes/downloads"
    assert found.teacher is not None
    assert found.teacher.weights == f"{tmp_path}/up.safetensors"
    assert found.student.weights == "pretrained"


@pytest.mark.parametrize(
    ("written", "expected"),
    [("/abs/x", "/abs/x"), ("x/../y", "/base/y"), ("~/x", "/home/me/x"), ("./x", "/base/x")],
)
def test_absolute_and_home_paths(written: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    overrides = [f"teacher.weights={written}", f"data.source=folder:{written}", f"data.root={written}"]
    found = decode(WHOLE, folder=Path("/base"), overrides=overrides)
    assert found.teacher is not None
    assert (found.teacher.weights, found.data.source, found.data.root) == (expected, f"folder:{expected}", expected)


@pytest.mark.parametrize("source", ["embedded", "torchvision:CIFAR10"])
def test_other_sources_are_not_taken_for_paths(source: str) -> None:
    assert decode(MINIMAL, folder=Path("/base"), overrides=[f"data.source={source}"]).data.source == source


def test_a_recipe_that_cannot_be_read(tmp_path: Path) -> None:
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"name = '\xe9'")
    for path in (tmp_path / "missing.toml", tmp_path, latin, "nul\0.toml"):
        with pytest.raises(RecipeError, match=r"cannot read the recipe .*; give the path of a recipe.toml"):
            load(path)


def test_errors_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text(MINIMAL.replace("epochs", "epoch"))
    with pytest.raises(RecipeError, match=f"{file}: unknown key 'train.epoch'"):
        load(file)


def test_encoding_writes_every_default_and_no_none() -> None:
    text = encode(decode(MINIMAL))
    for line in ("batch_size = 128", 'precision = "32-true"', "flip = false", "min_agreement = 0.999"):
        assert line in text
    assert "None" not in text
    assert "teacher" not in text


def test_encoding_can_keep_weights_relative(tmp_path: Path) -> None:
    found = decode(WHOLE, folder=tmp_path, overrides=["teacher.weights=a/../../b.safetensors"])
    text = encode(found, relative_to=tmp_path / "run")
    assert 'weights = "../../b.safetensors"' in text
    (tmp_path / "run").mkdir()
    assert decode(text, folder=tmp_path / "run") == found


def test_digest_is_that_of_the_content() -> None:
    assert digest(decode(MINIMAL)) == digest(decode("# a comment\nseed = 0\n" + MINIMAL))
    assert digest(decode(MINIMAL)) != digest(decode(MINIMAL, overrides=["seed=1"]))
    assert len(digest(decode(MINIMAL))) == 64
    assert digest(decode(WHOLE, overrides=["student.args={a=1, b=2}"])) == digest(decode(WHOLE, overrides=["student.args={b=2, a=1}"]))


def test_structs_are_frozen() -> None:
    with pytest.raises(AttributeError):
        decode(MINIMAL).train.epochs = 5  # type: ignore[misc]


def test_home_is_not_expanded_without_a_folder() -> None:
    found = decode(WHOLE, overrides=["teacher.weights=~/x"])
    assert found.teacher is not None
    assert found.teacher.weights == "~/x"
    assert not os.path.isabs(found.data.source.removeprefix("folder:"))


def simple(**train: Any) -> Recipe:
    return Recipe(name="x", data=Data(source="embedded"), student=Student(model="timm:x"), train=Train(epochs=1, **train))


def test_the_digest_is_of_values_not_of_how_they_were_given() -> None:
    whole, fractional = simple(lr=1, warmup_epochs=0), simple(lr=1.0, warmup_epochs=0.0)
    assert digest(whole) == digest(fractional) != digest(simple())
    assert digest(decode(encode(whole))) == digest(whole)


def test_the_digest_does_not_depend_on_the_machine_s_folders(tmp_path: Path) -> None:
    text = MINIMAL.replace("[train]", 'weights = "w.safetensors"\n[train]')
    places = (tmp_path / "a", tmp_path / "b")
    for place in places:
        place.mkdir()
        (place / "recipe.toml").write_text(text)
    first, second = (load(place / "recipe.toml") for place in places)
    assert first != second
    assert digest(first) == digest(second)
    (places[1] / "recipe.toml").write_text(text + '[teacher]\nmodel = "timm:y"')
    assert digest(load(places[1] / "recipe.toml")) != digest(first)


@pytest.mark.parametrize(
    ("source", "absolute"),
    [
        ("webdataset:data/{train-{0..9},val-0}.tar", "webdataset:/base/data/{train-{0..9},val-0}.tar"),
        ("webdataset:../a.tar::b.tar::http://host/c.tar", "webdataset:/a.tar::/base/b.tar::http://host/c.tar"),
        ("webdataset:https://host/{0..9}.tar", "webdataset:https://host/{0..9}.tar"),
    ],
)
def test_paths_of_shards_start_at_the_recipe(source: str, absolute: str) -> None:
    text = f'name = "a"\n[data]\nsource = "{source}"\n[student]\nmodel = "timm:x"\n[train]\nepochs = 1\n'
    assert recipe.decode(text, folder=Path("/base")).data.source == absolute


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("folder:/home/me/x", "folder"),
        ("webdataset:/home/me/a.tar", "webdataset"),
        ("embedded", "embedded"),
        ("torchvision:MNIST", "torchvision:MNIST"),
    ],
)
def test_sources_are_told_without_this_machines_folders(source: str, told: str) -> None:
    assert recipe.without_paths(source) == told


@pytest.mark.parametrize(("written", "read"), [("arm", "arm"), ("here", "here"), ("devices/rpi4", "FOLDER/devices/rpi4")])
def test_the_target_of_an_export_is_a_word_or_a_folder_beside_the_recipe(written: str, read: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f'{MINIMAL}\n[export]\ntarget = "{written}"\n')
    assert recipe.load(path).export.target == read.replace("FOLDER", str(tmp_path))


def test_a_digest_does_not_depend_on_where_boards_are(tmp_path: Path) -> None:
    digests = set()
    for folder in ("a", "b"):
        path = tmp_path / folder / "recipe.toml"
        path.parent.mkdir()
        path.write_text(f'{MINIMAL}\n[export]\ntarget = "rpi4"\n')
        digests.add(recipe.digest(recipe.load(path)))
    assert len(digests) == 1
