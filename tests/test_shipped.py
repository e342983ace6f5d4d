"""Everything that is shipped loads, fits and says the truth: recipes, weights, cards, bundles."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from edgedistill import bundle, recipe
from edgedistill.distill import networks, run, weights
from edgedistill.distill.data import open_splits
from edgedistill.runtime import predict_logits
from edgedistill.runtime.selfcheck import selfcheck

ROOT = Path(__file__).parents[1]
MODELS = sorted(path.parent for path in (ROOT / "models").glob("*/recipe.toml"))
BUNDLES = sorted(path.parent for path in (ROOT / "export").glob(f"*/{bundle.MANIFEST_NAME}"))
#: From a shipped network to the recipe that made it, which a person wrote.
RECIPES = {
    "fashion-mnist-resnet10t": "edgedistill/demo/teacher.toml",
    "fashion-mnist-mobilenetv3": "edgedistill/demo/student.toml",
    "garments-mobilenetv2": "models/comparison/garments-student.toml",
}
#: The networks whose data is embedded, and their bundle.
EMBEDDED = [path for path in MODELS if path.name.startswith("fashion-mnist-")]
DEMO = ROOT / "export" / "fashion-mnist-mobilenetv3"
QUANTIZATION = sorted((ROOT / "models" / "quantization").glob("*.toml"))
COMPARISONS = sorted((ROOT / "models").glob("comparison-*/results.json"))
LIMIT = 10_000_000


def results_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / run.RESULTS).read_text()))


def test_there_are_shipped_models_and_a_bundle() -> None:
    assert {path.name for path in MODELS} == set(RECIPES)
    assert [path.name for path in BUNDLES] == ["fashion-mnist-mobilenetv3", "garments-mobilenetv2"]


@pytest.mark.parametrize("folder", MODELS, ids=lambda path: path.name)
def test_a_shipped_model_is_a_finished_run_of_a_recipe_that_is_here(folder: Path) -> None:
    source = recipe.load(ROOT / RECIPES[folder.name])
    assert recipe.digest(recipe.load(folder / run.RECIPE)) == recipe.digest(source)
    assert results_of(folder)["recipe_sha256"] == recipe.digest(source)
    assert run.load(folder).student.classes == tuple(weights.read_card(folder / run.STUDENT)["classes"])


@pytest.mark.parametrize("folder", EMBEDDED, ids=lambda path: path.name)
def test_the_demo_s_networks_know_the_embedded_classes(folder: Path) -> None:
    assert run.load(folder).student.classes == open_splits(recipe.load(ROOT / "edgedistill/demo/student.toml").data).classes


@pytest.mark.parametrize("folder", MODELS, ids=lambda path: path.name)
def test_a_shipped_model_has_its_files_and_fits(folder: Path) -> None:
    for name in (run.RECIPE, run.STUDENT, run.RESULTS, "metrics.jsonl", "card.md"):
        assert (folder / name).is_file(), name
    assert (folder / run.STUDENT).stat().st_size <= LIMIT
    assert weights.read_card(folder / run.STUDENT)["recipe_sha256"] == results_of(folder)["recipe_sha256"]


@pytest.mark.parametrize(
    "file", [*(path / run.RECIPE for path in MODELS), *(path / run.RESULTS for path in MODELS)], ids=lambda p: p.parent.name
)
def test_no_path_of_a_machine_is_in_a_shipped_file(file: Path) -> None:
    text = file.read_text()
    assert "/home/" not in text
    assert str(ROOT) not in text
    assert 'weights = "/' not in text


def test_the_teacher_is_ten_times_the_student() -> None:
    teacher, student = (results_of(ROOT / "models" / f"fashion-mnist-{name}")["student"] for name in ("resnet10t", "mobilenetv3"))
    assert teacher["macs"] >= 10 * student["macs"] or teacher["parameters"] >= 10 * student["parameters"]


def test_the_student_was_taught_by_the_shipped_teacher() -> None:
    taught_by = results_of(ROOT / "models" / "fashion-mnist-mobilenetv3")["teacher"]
    assert taught_by["sha256"] == bundle.sha256_of(ROOT / "models" / "fashion-mnist-resnet10t" / run.STUDENT)


@pytest.mark.slow
@pytest.mark.parametrize("folder", EMBEDDED, ids=lambda path: path.name)
def test_a_shipped_accuracy_is_measured_again(folder: Path) -> None:
    """On the embedded test images, which are the student's own test set and which the teacher has never seen either."""
    loaded = run.load(folder)
    splits = open_splits(recipe.load(ROOT / "edgedistill/demo/student.toml").data)
    measured = run.measure(loaded.student, splits, loaded.recipe, lambda text, done, total: None)
    parameters, macs = networks.count(loaded.student)
    shipped = results_of(folder)["student"]
    assert measured["accuracy"] == pytest.approx(shipped["accuracy"], abs=0.01)
    assert (parameters, macs) == (shipped["parameters"], shipped["macs"])


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda path: path.name)
def test_a_shipped_bundle_loads_and_fits(folder: Path) -> None:
    loaded = bundle.load(folder)
    assert sum(file.stat().st_size for file in folder.iterdir()) <= LIMIT
    precisions = ("fp32", "int8") if folder == DEMO else ("int8",)
    assert {(model.format, model.precision) for model in loaded.manifest.files} == {
        (form, precision) for form in ("onnx", "tflite") for precision in precisions
    }
    assert loaded.manifest.provenance.teacher is not None
    assert loaded.manifest.provenance.teacher.licence_decision.startswith("allowed")
    assert loaded.manifest.golden is not None


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda path: path.name)
def test_a_shipped_bundle_passes_its_own_check(folder: Path) -> None:
    assert {check.state for check in selfcheck(folder)} == {"ok"}


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda path: path.name)
def test_a_shipped_bundle_is_of_the_shipped_student(folder: Path) -> None:
    made_from = bundle.load(folder).manifest.provenance
    assert made_from.student_sha256 == bundle.sha256_of(ROOT / "models" / folder.name / run.STUDENT)


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda path: path.name)
def test_a_shipped_int8_file_loses_no_more_than_a_point(folder: Path) -> None:
    student = results_of(ROOT / "models" / folder.name)["student"]["accuracy"]
    for model in bundle.load(folder).manifest.files:
        assert model.accuracy is not None
        assert model.accuracy >= student - 0.01 - 1e-9


def test_the_demo_s_bundle_meets_its_promises() -> None:
    files = {f"{model.format}-{model.precision}": model for model in bundle.load(DEMO).manifest.files}
    for name, model in files.items():
        assert model.accuracy is not None
        assert model.agreement is not None
        assert model.agreement >= (0.999 if name.endswith("fp32") else 0.97)
    tflite_fp32, tflite_int8 = files["tflite-fp32"].accuracy, files["tflite-int8"].accuracy
    assert tflite_fp32 is not None
    assert tflite_int8 is not None
    assert abs(tflite_fp32 - tflite_int8) <= 0.005 + 1e-9
    assert files["tflite-int8"].bytes < files["tflite-fp32"].bytes / 2


def test_the_demo_s_bundle_answers_real_photographs() -> None:
    test = open_splits(recipe.load(ROOT / "edgedistill/demo/student.toml").data).test.balanced(200)
    for model in bundle.load(DEMO).manifest.files:
        logits = predict_logits(DEMO, list(test), file=model.file)
        assert model.accuracy is not None
        assert (logits.argmax(axis=1) == test.labels).mean() == pytest.approx(model.accuracy, abs=0.07)


PUBLISH = runpy.run_path(str(ROOT / "models" / "published_tables.py"))


@pytest.mark.parametrize("document", PUBLISH["documents"](), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_generated_figures_are_those_of_the_result_files(document: Path) -> None:
    text = document.read_text()
    assert "<!-- generated: " in text
    assert PUBLISH["fill"](text) == text, "run: python models/publish.py readme"


def test_three_paired_seeds_are_shipped() -> None:
    seeds = json.loads((ROOT / "models" / "fashion-mnist-mobilenetv3" / "seeds.json").read_text())["seeds"]
    assert len({row["seed"] for row in seeds}) >= 3


@pytest.mark.parametrize("file", COMPARISONS, ids=lambda path: path.parent.name)
def test_a_comparison_has_all_methods_with_three_paired_seeds(file: Path) -> None:
    compare = runpy.run_path(str(ROOT / "models" / "compare.py"))
    runs = json.loads(file.read_text())["runs"]
    seeds = {method: {entry["seed"] for entry in runs if entry["method"] == method} for method in compare["METHODS"]}
    assert all(found == seeds["plain"] for found in seeds.values())
    assert len(seeds["plain"]) >= 3
    assert len(runs) == sum(map(len, seeds.values()))


def test_two_pairs_are_compared_and_a_method_beats_plain_training() -> None:
    assert len(COMPARISONS) == 2
    tables = [PUBLISH["methods_table"](file.parent.name) for file in COMPARISONS]
    assert any("| better |" in table for table in tables)


def test_a_paired_interval_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, deviation 1, half width 4.303 / sqrt(3)."""
    mean, low, high = PUBLISH["paired"]([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert (high - low) / 2 == pytest.approx(4.303 / 3**0.5)


@pytest.mark.parametrize("file", QUANTIZATION, ids=lambda path: path.stem)
def test_a_recipe_of_a_student_for_int8_loads(file: Path) -> None:
    assert recipe.load(file).name == file.stem


EVIDENCE = {what: json.loads((ROOT / "models" / "quantization" / f"{what}.json").read_text())["students"] for what in ("students", "hard")}


@pytest.mark.parametrize("entry", EVIDENCE["students"], ids=lambda entry: entry["name"])
def test_static_int8_of_a_trained_student_is_right_and_whole(entry: dict[str, Any]) -> None:
    (kept,) = [model for model in entry["files"] if model["format"] == "tflite" and model["quantization"]]
    assert kept["quantization"].startswith("static_int8")
    assert kept["partitions"] == 1
    assert kept["drop"] <= (0.01 if entry["name"].endswith("mobilenetv3") else 0.005) + 1e-9


@pytest.mark.parametrize("entry", [one for one in EVIDENCE["students"] if one["images"] == 2000], ids=lambda entry: entry["name"])
def test_fake_quantization_answers_like_the_kernels_of_a_file(entry: dict[str, Any]) -> None:
    """On the embedded photographs; the garments' students, whose figures are in the table, agree less."""
    assert entry["fake_agreement"] >= 0.995


@pytest.mark.parametrize("entry", EVIDENCE["hard"], ids=lambda entry: entry["name"])
def test_students_made_hard_lose_and_are_set_right(entry: dict[str, Any]) -> None:
    ways = entry["ways"]
    assert ways["trained"]["drop"] >= 0.02
    assert ways["equalized"]["recovered"] >= 0.5
    assert ways["quantization_aware"]["recovered"] >= 0.8
