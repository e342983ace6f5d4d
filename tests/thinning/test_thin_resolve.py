"""From a target to a ratio in the recipe; in the quick tests a file's measure is a made-up function of the network's size."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import tiny_network
import torch

from edgedistill import recipe, thinning
from edgedistill.bundle import ModelFile, write_atomically
from edgedistill.cli import run as command
from edgedistill.distill import networks, run
from edgedistill.distill.networks import Network
from edgedistill.errors import RecipeError
from edgedistill.recipe import Prune, Recipe
from edgedistill.thinning import files

TELL = {"progress": lambda text, done, total: None, "say": lambda text: None}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, to be pruned, beside its recipe."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "recipe.toml").write_text(tiny_network.RECIPE.replace(":make", ":prunable") + "")
    run.distill(recipe.load(folder / "recipe.toml", overrides=["student.args={width = 32}"]), folder / "run")
    return folder


def thin(whole: Path, **keys: Any) -> Recipe:
    found = recipe.load(whole / "recipe.toml", overrides=["student.args={width = 32}", "student.weights=run/student.safetensors"])
    prune = Prune(**keys) if keys else None
    return msgspec.structs.replace(found, student=msgspec.structs.replace(found.student, prune=prune))


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> list[Network]:
    """Networks that were written: a byte and a microsecond a parameter."""
    written: list[Network] = []

    def write(network: Network, student: recipe.Student, path: Path, **_: Any) -> ModelFile:
        written.append(network)
        parameters = networks.count(network)[0]
        tensor = {"name": "x", "dtype": "float32"}
        size = network.input_size
        raw = {"file": path.name, "format": "tflite", "precision": "fp32", "bytes": parameters, "sha256": "0" * 64}
        ends = {"input": {**tensor, "shape": [1, size, size, 3], "layout": "NHWC"}, "output": {**tensor, "shape": [1, 10], "layout": "NC"}}
        return msgspec.convert({**raw, **ends, "minimum_runtime": "x"}, ModelFile)

    monkeypatch.setattr(files, "write", write)
    monkeypatch.setattr(files, "latency_ms", lambda path, model, threads: model.bytes / 1000)
    return written


@pytest.mark.parametrize("keys", [{}, {"ratio": 0.5}, {"macs": 0.5}, {"latency_ms": 1, "ratio": 0.3}])
def test_what_needs_no_file_is_left_as_it_is(whole: Path, tmp_path: Path, keys: dict[str, Any], made_up: list[Network]) -> None:
    wanted = thin(whole, **keys)
    assert thinning.resolve(wanted, tmp_path, resume=False, **TELL) is wanted
    assert made_up == []


@pytest.mark.parametrize("keys", [{"bytes": 6000}, {"latency_ms": 5.0}])
def test_the_ratio_that_is_found_keeps_the_target_when_it_is_used(
    whole: Path, tmp_path: Path, keys: dict[str, Any], made_up: list[Network]
) -> None:
    said: list[str] = []
    found = thinning.resolve(thin(whole, **keys), tmp_path, resume=False, progress=TELL["progress"], say=said.append)
    assert found.student.prune is not None
    assert found.student.prune.ratio is not None
    assert msgspec.structs.replace(found.student.prune, ratio=None) == Prune(**keys)
    assert 3 <= len(made_up) <= 6
    assert "pruning ratio" in said[-1]
    run.distill(found, tmp_path / "run")
    limit = keys.get("bytes", 5000)
    assert 0.6 * limit < networks.count(run.load(tmp_path / "run").student)[0] <= limit


def test_a_student_that_keeps_the_target_is_not_pruned(whole: Path, tmp_path: Path, made_up: list[Network]) -> None:
    said: list[str] = []
    found = thinning.resolve(thin(whole, bytes=10**9), tmp_path, resume=False, progress=TELL["progress"], say=said.append)
    assert found == thin(whole)
    assert said == ["the whole student keeps bytes = 1,000,000,000 bytes, so that nothing is pruned"]


def test_with_resume_the_ratio_that_was_found_is_taken_again(whole: Path, tmp_path: Path, made_up: list[Network]) -> None:
    """A latency measured a second time would give another ratio, and a checkpoint of another network."""
    former = thin(whole, latency_ms=5.0, ratio=0.123)
    write_atomically(tmp_path / run.RECIPE, recipe.encode(former).encode())
    assert thinning.resolve(thin(whole, latency_ms=5.0), tmp_path, resume=True, **TELL) == former
    assert made_up == []
    other = thinning.resolve(thin(whole, latency_ms=6.0), tmp_path, resume=True, **TELL)
    assert other.student.prune is not None
    assert other.student.prune.ratio != 0.123


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"bytes": 100}, r"bytes = 100 bytes cannot be reached: the thinnest .* has [\d,]+ bytes, the whole one [\d,]+ bytes"),
        ({"latency_ms": 0.1}, "latency_ms = 0.1 ms here cannot be reached"),
        ({"latency_ms": 1, "profile": "devices/rpi4", "file": "tflite-int8"}, "estimates are of fp32"),
        ({"latency_ms": 1, "profile": "nowhere"}, "nowhere/profile.toml cannot be read"),
    ],
)
def test_what_cannot_be_resolved(whole: Path, tmp_path: Path, keys: dict[str, Any], message: str, made_up: list[Network]) -> None:
    with pytest.raises(RecipeError, match=message):
        thinning.resolve(thin(whole, **keys), tmp_path, resume=False, **TELL)


def test_several_processes_do_not_search(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_up: list[Network]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match="several processes would find several ratios"):
        thinning.resolve(thin(whole, bytes=6000), tmp_path, resume=False, **TELL)


@pytest.mark.parametrize(
    ("keys", "options", "expected"),
    [
        ({}, {"latency_ms": 4.0}, {"latency_ms": 4.0}),
        ({"ratio": 0.5, "round_to": 4}, {"most_bytes": 9}, {"bytes": 9, "round_to": 4}),
        ({"macs": 0.5}, {"latency_ms": 4.0, "profile": Path("/b")}, {"latency_ms": 4.0, "profile": "/b"}),
        ({"latency_ms": 3.0}, {"profile": Path("/b")}, {"latency_ms": 3.0, "profile": "/b"}),
        ({"macs": 0.5}, {}, {"macs": 0.5}),
    ],
)
def test_options_win_over_the_recipe(whole: Path, keys: dict[str, Any], options: dict[str, Any], expected: dict[str, Any]) -> None:
    given = {"latency_ms": None, "most_bytes": None, "profile": None, **options}
    assert thinning.with_target(thin(whole, **keys), **given).student.prune == Prune(**expected)


@pytest.mark.parametrize(
    "options",
    [{"latency_ms": 4.0, "most_bytes": 9}, {"most_bytes": 9, "profile": Path("/b")}, {"profile": Path("/b")}],
)
def test_options_that_do_not_go_together(whole: Path, options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="give one of --target-latency and --target-bytes, and --profile with the first"):
        thinning.with_target(thin(whole), **{"latency_ms": None, "most_bytes": None, "profile": None, **options})


def test_the_command_without_weights_says_what_to_do_first(whole: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["distill", str(whole / "recipe.toml"), "--target-bytes", "9000", "--out", str(tmp_path / "run")]
    assert command(arguments) == 1
    assert "train the whole student first" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_command_finds_prunes_and_trains(
    whole: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, made_up: list[Network]
) -> None:
    weights = f"student.weights={whole / 'run' / 'student.safetensors'}"
    options = ["--set", weights, "--set", "student.args={width = 32}", "--target-bytes", "6000", "--out", str(tmp_path / "run")]
    assert command(["distill", str(whole / "recipe.toml"), *options]) == 0
    shown = capsys.readouterr().err
    assert "pruning ratio" in shown
    assert "pruned by l2" in shown
    assert run.load(tmp_path / "run").student.pruned is not None
    assert command(["distill", str(whole / "recipe.toml"), *options, "--resume"]) == 0


@pytest.mark.slow
def test_a_real_file_is_as_small_as_asked_and_passes_the_export(whole: Path, tmp_path: Path) -> None:
    """The whole way: search by real files, prune, train a few batches, export with its gates, and look into the file."""
    from ai_edge_litert.interpreter import Interpreter

    from edgedistill import bundle, pipeline

    torch.manual_seed(0)
    wanted = thin(whole, bytes=34_000)
    wanted = msgspec.structs.replace(wanted, data=msgspec.structs.replace(wanted.data, test_limit=300))
    found = thinning.resolve(wanted, tmp_path, resume=False, **TELL)
    results = run.distill(found, tmp_path / "run")
    assert results["student"]["macs"] < results["student"]["pruned"]["before"]["macs"]
    pipeline.export(tmp_path / "run", tmp_path / "bundle", changes={"formats": ("tflite",), "int8": False}, progress=TELL["progress"])
    exported = bundle.load(tmp_path / "bundle").model("tflite-fp32")
    assert exported.partitions == 1
    assert exported.bytes <= 34_000
    interpreter = Interpreter(str(tmp_path / "bundle" / exported.file))
    interpreter.allocate_tensors()
    shapes = {tuple(detail["shape"]) for detail in interpreter.get_tensor_details()}
    thinner = run.load(tmp_path / "run").student.module.get_submodule("2.expand.0")
    assert thinner.out_channels < 128
    assert (thinner.out_channels, 1, 1, thinner.in_channels) in shapes
    assert (128, 1, 1, 32) not in shapes
