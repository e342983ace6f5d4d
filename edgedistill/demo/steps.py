"""`edgedistill demo`, step by step: teacher, two students, bundle, profile, camera, report.

Each step leaves its files in one folder and is skipped when they are there and its inputs have not changed. The bundle
is profiled and run by the device's own command line in a process of its own, so the figures are those of a device
without torch.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgedistill import __version__, bundle, metrics, pipeline, recipe
from edgedistill.bundle import Bundle, sha256_of, write_atomically
from edgedistill.demo import page, students
from edgedistill.demo.clip import ClipOptions, render_clip
from edgedistill.demo.device import SHIPPED_FILE, camera_results, device
from edgedistill.demo.students import Demo
from edgedistill.distill import run
from edgedistill.distill.data import EMBEDDED_FILE, Splits, open_splits
from edgedistill.recipe import Recipe
from edgedistill.runtime import predict_logits

FOLDER = Path(__file__).parent
FULL_SET = "torchvision:FashionMNIST"


def demo(job: Demo) -> dict[str, Any]:
    """Run all steps and return results.json, which is written beside report.html in `job.out`."""
    job.out.mkdir(parents=True, exist_ok=True)
    weights = teacher_weights(job)
    student = teach_with(job, weights, student_recipe(job))
    plain, distilled = students.train_both(job, student)
    loaded = export(job)
    splits = open_splits(student.data)
    test = splits.test.balanced(student.export.parity_images)
    profiles = profile(job, loaded)
    camera = run_camera(job, loaded, splits)
    logits = predict_logits(loaded, list(test), file=SHIPPED_FILE)
    results = {
        "schema": 1,
        "teacher": {**distilled["teacher"], "bytes": weights.stat().st_size},
        "plain": {**plain["student"], "bytes": (job.out / "plain" / run.STUDENT).stat().st_size},
        "distilled": {**distilled["student"], "bytes": (job.out / "distilled" / run.STUDENT).stat().st_size},
        "test_images": distilled["data"]["images"]["test"],
        "paired": paired(job, splits),
        "seeds": repeated_seeds() if student.data.source == "embedded" else [],
        "files": [file_results(loaded, model, profiles[model.file]) for model in loaded.manifest.files],
        "camera": camera,
        "environment": {"training": distilled["environment"], "device": profiles[loaded.model(SHIPPED_FILE).file]["environment"]},
    }
    write_atomically(job.out / "results.json", json.dumps(results, indent=2).encode() + b"\n")
    page.write(job.out, results, splits=splits, confusion=metrics.confusion_matrix(logits, test.labels))
    return results


def in_checkout() -> bool:
    """Whether the images and the teacher that the source checkout ships are here."""
    return EMBEDDED_FILE.is_file()


def student_recipe(job: Demo) -> Recipe:
    """Return the shipped student's recipe, on the images that are to be had."""
    wanted = recipe.load(FOLDER / "student.toml")
    source = job.data or ("embedded" if in_checkout() else FULL_SET)
    wanted = msgspec.structs.replace(wanted, data=msgspec.structs.replace(wanted.data, source=source))
    return wanted.smoke() if job.smoke else wanted


def teacher_weights(job: Demo) -> Path:
    """Return the teacher's weights: the shipped ones, or those of a training here and now."""
    (wanted,) = recipe.load(FOLDER / "student.toml").teachers
    assert wanted.weights is not None
    shipped = Path(wanted.weights)
    if shipped.is_file() and not job.train_teacher and job.data is None:
        job.say(f"teacher: the shipped {shipped.parent.name}")
        return shipped
    teaching = recipe.load(FOLDER / "teacher.toml")
    source = job.data or FULL_SET
    teaching = msgspec.structs.replace(teaching, data=msgspec.structs.replace(teaching.data, source=source))
    students.train(job, _short(teaching) if job.smoke else teaching, "teacher")
    return job.out / "teacher" / run.STUDENT


def _short(teaching: Recipe) -> Recipe:
    """Return the teacher's recipe for a smoke run: long enough that the check for a teacher near chance lets it pass."""
    return msgspec.structs.replace(
        teaching,
        data=msgspec.structs.replace(teaching.data, train_limit=1600, test_limit=256),
        train=msgspec.structs.replace(teaching.train, epochs=3, batch_size=32),
    )


def teach_with(job: Demo, weights: Path, student: Recipe) -> Recipe:
    """Return the student's recipe with these teacher weights."""
    (teacher,) = student.teachers
    return msgspec.structs.replace(student, teacher=msgspec.structs.replace(teacher, weights=str(weights)))


def unchanged(job: Demo, step: str, *inputs: str) -> bool:
    """Whether a step was done with these inputs; says so. Call `done` after doing it."""
    same = _stamp_file(job, step).is_file() and _stamp_file(job, step).read_text() == _stamp(step, inputs)
    if same:
        job.say(f"{step}: inputs have not changed, skipped")
    return same


def done(job: Demo, step: str, *inputs: str) -> None:
    """Remember that a step was done with these inputs."""
    write_atomically(_stamp_file(job, step), _stamp(step, inputs).encode())


def _stamp_file(job: Demo, step: str) -> Path:
    return job.out / f".{step}.stamp"


def _stamp(step: str, inputs: tuple[str, ...]) -> str:
    return hashlib.sha256("\0".join([__version__, step, *inputs]).encode()).hexdigest()


def export(job: Demo) -> Bundle:
    """Export the distilled student into out/bundle, every file through both gates."""
    out, student = job.out / "bundle", job.out / "distilled" / run.STUDENT
    inputs = (sha256_of(student), recipe.digest(recipe.load(student.with_name(run.RECIPE))))
    if (out / bundle.MANIFEST_NAME).is_file() and (job.out / "export.json").is_file() and unchanged(job, "export", *inputs):
        return bundle.load(out)
    # an untrained student's answers are all but ties, which rounding decides: a smoke run is not held to the parity budgets
    changes = {"min_agreement": 0.0, "max_int8_drop": 1.0} if job.smoke else {}
    exported = pipeline.export(
        job.out / "distilled", out, changes=changes, progress=lambda text, d, t: job.progress(f"export: {text}", d, t)
    )
    write_atomically(job.out / "export.json", json.dumps(pipeline.exported_as_json(exported), indent=2).encode())
    done(job, "export", *inputs)
    return exported.bundle


def profile(job: Demo, loaded: Bundle) -> dict[str, dict[str, Any]]:
    """Profile each file of the bundle in a process of its own; return `profile --json` by file name."""
    saved = job.out / "profiles.json"
    inputs = tuple(model.sha256 for model in loaded.manifest.files)
    if saved.is_file() and unchanged(job, "profile", *inputs):
        return dict(json.loads(saved.read_text()))
    profiles = {}
    for number, model in enumerate(loaded.manifest.files, start=1):
        runs = "20" if job.smoke else "300"
        text = device("profile", str(loaded.path), "--file", model.file, "--threads", "auto", "--runs", runs, "--json")
        profiles[model.file] = json.loads(text)
        job.progress("profiling each file", number, len(loaded.manifest.files))
    write_atomically(saved, json.dumps(profiles, indent=2).encode())
    done(job, "profile", *inputs)
    return profiles


def run_camera(job: Demo, loaded: Bundle, splits: Splits) -> dict[str, Any]:
    """Render the clip of held-out images, run the device's camera loop over it, and compare with the truth."""
    clip, truth_file, lines = job.out / "clip.avi", job.out / "clip.json", job.out / "camera.jsonl"
    options = ClipOptions(seconds=2.0 if job.smoke else 20.0, scale=(0.75, 1.0))
    inputs = (loaded.model(SHIPPED_FILE).sha256, splits.sha256, str(options))
    if not (lines.is_file() and truth_file.is_file() and unchanged(job, "camera", *inputs)):
        shown = splits.test.balanced(max(len(splits.classes), round(options.seconds / options.seconds_per_image)))
        job.progress("rendering the clip", 0, 1)
        render_clip(list(shown), shown.labels, out_video=clip, truth_file=truth_file, options=options)
        job.progress("rendering the clip", 1, 1)
        arguments = ("--source", str(clip), "--file", SHIPPED_FILE, "--output", "jsonl", "--save", str(job.out / "annotated.mp4"))
        write_atomically(lines, device("camera", str(loaded.path), *arguments).encode())
        job.progress("camera over the clip", 1, 1)
        done(job, "camera", *inputs)
    return camera_results(lines, truth_file)


def file_results(loaded: Bundle, model: bundle.ModelFile, profiled: dict[str, Any]) -> dict[str, Any]:
    """Return one entry of `files` in results.json."""
    total = profiled["stages_ms"]["total"]
    return {
        "file": model.file,
        "format": model.format,
        "precision": model.precision,
        "bytes": model.bytes,
        "accuracy": model.accuracy,
        "agreement": model.agreement,
        "teacher_agreement": model.teacher_agreement,
        "latency_ms": {key: total[key] for key in ("p50", "p90", "p99")},
        "invoke_ms": profiled["stages_ms"]["invoke"],
        "threads": profiled["threads"],
        "engine": profiled["engine"],
        "peak_rss_mb": profiled["peak_rss_mb"],
        "first_result_s": profiled["first_result_s"],
    }


def paired(job: Demo, splits: Splits) -> dict[str, int]:
    """Return how many test images only one of the two students gets right."""
    right = {}
    for name in ("plain", "distilled"):
        finished = run.load(job.out / name)
        right[name] = run.test_logits(finished, splits).argmax(axis=1) == splits.test.labels
    return {
        "only_distilled": int(np.sum(right["distilled"] & ~right["plain"])),
        "only_plain": int(np.sum(right["plain"] & ~right["distilled"])),
    }


def repeated_seeds() -> list[dict[str, Any]]:
    """Return the shipped accuracies of repeated runs, [] outside of the checkout."""
    file = EMBEDDED_FILE.parents[1] / recipe.load(FOLDER / "student.toml").name / "seeds.json"
    return list(json.loads(file.read_text())["seeds"]) if file.is_file() else []
