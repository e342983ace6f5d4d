"""What is run in the emulation and compared with this machine: self-checks, the loop on a clip, an HTTP camera, instructions."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from arm_apt import NotHere
from arm_install import ROOT, RUN_S, environment
from http_camera_server import HttpCamera

from edgedistill import bundle
from edgedistill.convert import parity
from edgedistill.distill.data import EMBEDDED_FILE
from edgedistill.recipe import Export
from edgedistill.runtime.pattern import draw_pattern
from edgedistill.runtime.results import ResultLine, read_results

HERE = Path(__file__).resolve().parent
BUNDLES = sorted(manifest.parent for manifest in (ROOT / "export").glob("*/manifest.json"))
CLIP_FRAMES, CAMERA_FRAMES = 12, 3
#: Largest difference of a probability between ARM and x86: floats are added up in another order. 8-bit files have no such bound: each
#: kernel rounds differently after every layer (two kernels of one interpreter on one x86 machine differ by 0.06 on this clip). Their
#: answers must be the same, the difference is told, and accuracy on photographs is within the budget of an export like every file's.
BUDGETS = {"tflite-fp32": 1e-4, "onnx-fp32": 1e-4}
PHOTOGRAPHS, PHOTOGRAPHED = 1000, "fashion-mnist-mobilenetv3"
NOT_A_LATENCY = "times of an emulation are no latencies of a board: none is given; instructions are counted, not timed"


def check_suite(python: Path, work: Path) -> dict[str, Any]:
    """Run everything in one userland and return what came out; raises AssertionError where ARM answers otherwise than x86."""
    clip = write_clip(work / "clip.avi")
    return {
        "bundle": runtime(python, "info", str(BUNDLES[0]), "--json")["manifest"]["name"],
        "versions": version_of(python),
        "selfcheck": {folder.name: selfcheck(python, folder) for folder in BUNDLES},
        "clip": [compare(python, folder, kind, clip) for folder in BUNDLES for kind in kinds(folder)],
        "photographs": photographs(python, ROOT / "export" / PHOTOGRAPHED, work),
        "http_camera": http_camera(python, BUNDLES[0]),
        "profile": list(runtime(python, "profile", str(BUNDLES[0]), "--runs", "3", "--json")["stages_ms"]),
    }


def kinds(folder: Path) -> list[str]:
    """Return the files of a bundle as FORMAT-PRECISION."""
    return [f"{model.format}-{model.precision}" for model in bundle.load(folder).manifest.files]


def runtime(python: Path, *arguments: str, parse: bool = True) -> Any:
    """Run the device's command line and return its JSON."""
    command = [str(python), "-m", "edgedistill.runtime", *arguments]
    inside = environment() if python != Path(sys.executable) else None
    done = subprocess.run(command, env=inside, cwd=ROOT / "tests", capture_output=True, text=True, check=False, timeout=RUN_S)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments[:2])} ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout) if parse else done.stdout


def version_of(python: Path) -> dict[str, str]:
    """Return machine, Python and package versions as the emulated runtime tells them."""
    code = (
        "import json, platform; from edgedistill.runtime.conditions import cpu_model, versions; from pathlib import Path; "
        "print(json.dumps({'machine': platform.machine(), 'board': cpu_model(Path('/'), ''), **versions()}))"
    )
    done = subprocess.run([str(python), "-c", code], env=environment(), capture_output=True, text=True, check=True, timeout=RUN_S)
    found: dict[str, str] = json.loads(done.stdout)
    assert found["machine"] == "aarch64"
    return found


def selfcheck(python: Path, folder: Path) -> dict[str, float]:
    """Return the largest difference from the golden logits by file; each file must have been run and found right."""
    checks = runtime(python, "selfcheck", str(folder), "--json")["checks"]
    assert {check["state"] for check in checks} == {"ok"}, checks
    return {check["file"]: check["difference"] for check in checks}


def write_clip(path: Path) -> Path:
    """Write a short clip of the test pattern."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (320, 240))
    for number in range(CLIP_FRAMES):
        writer.write(draw_pattern(number * 20, height=240, width=320))
    writer.release()
    return path


def results(python: Path, folder: Path, kind: str, source: str, *more: str) -> list[ResultLine]:
    """Return the results of the camera loop, all classes of each frame."""
    flags = ("--source", source, "--file", kind, "--threads", "1", "--top-k", "1000", "--output", "jsonl")
    return list(read_results(io.StringIO(runtime(python, "camera", str(folder), *flags, *more, parse=False)), finished=True))


def compare(python: Path, folder: Path, kind: str, clip: Path) -> dict[str, Any]:
    """Compare the loop's answers on a clip with those of this machine."""
    ours, theirs = (results(one, folder, kind, str(clip)) for one in (Path(sys.executable), python))
    assert len(ours) == len(theirs) == CLIP_FRAMES
    difference, budget = largest(ours, theirs), BUDGETS.get(kind)
    same = sum(mine.top_k[0].label == yours.top_k[0].label for mine, yours in zip(ours, theirs, strict=True))
    assert same == CLIP_FRAMES, f"{folder.name} {kind}: {CLIP_FRAMES - same} of {CLIP_FRAMES} answers differ"
    assert budget is None or difference <= budget, f"{folder.name} {kind}: a probability differs by {difference:.2g}, allowed is {budget}"
    row = {"bundle": folder.name, "file": kind, "frames": CLIP_FRAMES, "same_answers": same}
    return row | {"largest_difference": difference, "budget": budget}


def largest(ours: list[ResultLine], theirs: list[ResultLine]) -> float:
    """Return the largest difference of a probability over all frames."""
    return max(largest_difference(here, there) for here, there in zip(ours, theirs, strict=True))


def largest_difference(here: ResultLine, there: ResultLine) -> float:
    """Return the largest difference of a class's probability in two results."""
    scores = [{one.label: one.score for one in result.top_k} for result in (here, there)]
    return max(abs(scores[0][label] - scores[1][label]) for label in scores[0])


def photographs(python: Path, folder: Path, work: Path) -> list[dict[str, Any]]:
    """Hold the answers to real photographs to the budgets of an export, with this machine's answers as the reference."""
    loaded, found = bundle.load(folder), []
    with np.load(EMBEDDED_FILE) as arrays:
        labels = arrays["test_labels"][:PHOTOGRAPHS].astype(int)
    for name, one in (("x86", Path(sys.executable)), ("arm", python)):
        command = [str(one), str(HERE / "arm_photographs.py"), str(folder), str(EMBEDDED_FILE), str(PHOTOGRAPHS), str(work / name)]
        inside = environment() if one == python else None
        subprocess.run(command, env=inside, check=True, capture_output=True, timeout=RUN_S)
        with np.load(work / f"{name}.npz") as arrays:
            found.append(dict(arrays))
    ours, theirs = found
    rungs = [
        parity.compare(theirs[model.file], parity.Reference([], labels, ours[model.file]), model=model, settings=Export())
        for model in loaded.manifest.files
    ]
    parity.check(rungs)
    return [
        {"file": rung.file, "photographs": rung.images, "agreement": rung.agreement, "accuracy": rung.accuracy, "drop": rung.drop}
        | {"budget": rung.budget}
        for rung in rungs
    ]


def http_camera(python: Path, folder: Path) -> dict[str, Any]:
    """Let both look at a camera on this machine that shows one picture."""
    kind = "tflite-fp32"
    with HttpCamera([draw_pattern(40, height=240, width=320)], fps=10) as camera:
        ours, theirs = (
            results(one, folder, kind, camera.address, "--frames", str(CAMERA_FRAMES)) for one in (Path(sys.executable), python)
        )
    assert len(theirs) == CAMERA_FRAMES
    difference = max(largest_difference(ours[0], one) for one in theirs)
    assert difference <= BUDGETS[kind], f"{kind}: a probability differs by {difference:.2g}"
    return {"file": kind, "frames": CAMERA_FRAMES, "largest_difference": difference}


def instructions(python: Path, work: Path) -> dict[str, Any] | str:
    """Return counted instructions of one inference with one thread for each file, or why they could not be counted."""
    try:
        plugin = build_plugin(work)
        return {
            f"{folder.name} {kind}": counted(python, folder, kind, plugin=plugin, out=work / "counts.jsonl")
            for folder in BUNDLES
            for kind in kinds(folder)
        }
    except (NotHere, OSError, subprocess.CalledProcessError) as error:
        return f"not counted: {error}"


def build_plugin(work: Path) -> Path:
    """Compile the counting plugin."""
    plugin = work / "libicount.so"
    command: Sequence[str] = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(plugin), str(HERE / "icount.c")]
    subprocess.run(command, check=True, capture_output=True)
    return plugin


def counted(python: Path, folder: Path, kind: str, *, plugin: Path, out: Path) -> dict[str, int]:
    """Return the instructions of one inference."""
    out.unlink(missing_ok=True)
    inside = environment(QEMU_PLUGIN=f"{plugin},out={out}")
    command = [str(python), str(HERE / "arm_counted.py"), str(folder), kind]
    subprocess.run(command, env=inside, check=True, capture_output=True, timeout=RUN_S)
    if not out.is_file():
        raise NotHere("this qemu runs no plugins; use Debian's qemu-user, not qemu-user-static")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    return {name: count for name, count in next(line for line in lines if line["mark"] == 1).items() if name != "mark"}
