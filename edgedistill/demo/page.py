"""The demo's report.html: gathers what the steps left in the folder for `report`, which knows nothing of folders."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgedistill.demo.clip import read_truth
from edgedistill.demo.device import SHIPPED_FILE, read_camera
from edgedistill.demo.report import ReportInput, Sample, write_report
from edgedistill.distill import loop
from edgedistill.distill.data import Splits
from edgedistill.errors import SourceError
from edgedistill.latency import STAGES
from edgedistill.runtime.results import ResultLine

SAMPLES = 12
COMMANDS = (
    "edgedistill demo",
    "edgedistill evaluate runs/demo/bundle",
    "edgedistill profile runs/demo/bundle --file tflite-int8 --threads auto",
    "edgedistill camera runs/demo/bundle --source runs/demo/clip.avi",
    "python -m edgedistill.runtime selfcheck runs/demo/bundle",
)


def write(out: Path, results: dict[str, Any], *, splits: Splits, confusion: np.ndarray) -> None:
    """Write out/report.html from the demo's folder and results."""
    rows = read_camera(out / "camera.jsonl")
    counts = {name: len(part) for name, part in (("training", splits.train), ("validation", splits.validation), ("test", splits.test))}
    described = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    converted = json.loads((out / "export.json").read_text())
    report = ReportInput(
        results=results,
        created=created(),
        dataset=f"Photographs of garments, {len(splits.classes)} classes, licence {splits.licence}: {described} images.",
        curves={name: _rows(out / name / loop.METRICS) for name in ("plain", "distilled")},
        labels=splits.classes,
        confusion=confusion,
        shipped_file=next(entry["file"] for entry in results["files"] if f"{entry['format']}-{entry['precision']}" == SHIPPED_FILE),
        stage_latencies_ms={stage: [getattr(row.stages_ms, stage) for row in rows[1:]] for stage in STAGES},
        samples=samples(out, rows, splits.classes),
        ladder=_ladder(converted),
        tried=converted["attempts"],
        commands=COMMANDS,
    )
    write_report(report, out / "report.html")


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _ladder(converted: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**row, **converted["audits"][row["file"]]} for row in converted["ladder"]]


def samples(out: Path, rows: list[ResultLine], labels: tuple[str, ...]) -> list[Sample]:
    """Return a dozen frames of the annotated clip's source, evenly spread, with what the loop said of them."""
    truth = {frame.frame_id: frame.label for frame in read_truth(out / "clip.json").frames}
    by_frame = {row.frame_id: row for row in rows if row.top_k}
    wanted = {sorted(by_frame)[int(position)] for position in np.linspace(0, len(by_frame) - 1, SAMPLES)}
    video = cv2.VideoCapture(str(out / "clip.avi"))
    found: list[Sample] = []
    for frame_id in range(max(wanted) + 1):
        ok, frame_bgr = video.read()
        if not ok:
            raise SourceError(f"{out / 'clip.avi'} ends at frame {frame_id}; remove it and run the demo again")
        if frame_id in wanted:
            best = by_frame[frame_id].top_k[0]
            found.append(Sample(frame_bgr, best.label, best.score, labels[truth[frame_id]]))
    video.release()
    return found


def created() -> str:
    """Return the date and time as text, in UTC."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
