"""The whole export: a real small bundle, every refusal, and nothing left behind when a step fails."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import blobs
import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from edgedistill import bundle
from edgedistill.bundle import Preprocess
from edgedistill.convert import calibration, forms
from edgedistill.convert.export import export_bundle
from edgedistill.convert.graph import Graph
from edgedistill.convert.job import Exported
from edgedistill.convert.onnx_file import write_onnx
from edgedistill.convert.parity import table
from edgedistill.errors import ConvertError, ParityError
from edgedistill.preprocess import Preprocessor
from edgedistill.recipe import Export
from edgedistill.runtime import open_engine, predict_logits

ONNX_ONLY = Export(formats=("onnx",))
#: What lies beside the files of a bundle that has int8.
BESIDE = ["calibration-trained.json", "golden.npz", "manifest.json", "report.md"]
FP32_ONLY = Export(formats=("onnx",), int8=False)


@pytest.fixture(scope="module")
def teacher_logits() -> np.ndarray:
    """Return a teacher that is right on all test images but the first 64."""
    labels = blobs.frames(256, seed=2)[1].copy()
    labels[:64] = (labels[:64] + 1) % 6
    return np.eye(6, dtype=np.float32)[labels]


@pytest.fixture(scope="module")
def done(student: nn.Module, teacher_logits: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> tuple[Exported, list[str]]:
    """Return a real export to ONNX, fp32 and int8, and what it told on the way."""
    told: list[str] = []
    out = tmp_path_factory.mktemp("export") / "bundle"
    return export_bundle(student, blobs.job(teacher_logits=teacher_logits), out, progress=told.append), told


def test_the_bundle_loads_and_its_files_are_measured(done: tuple[Exported, list[str]]) -> None:
    loaded = bundle.load(done[0].bundle.path)
    assert loaded.manifest == done[0].bundle.manifest
    assert [model.file for model in loaded.manifest.files] == ["blobs-fp32.onnx", "blobs-int8.onnx"]
    fp32, int8 = loaded.manifest.files
    assert (fp32.precision, int8.precision, fp32.format) == ("fp32", "int8", "onnx")
    for model in (fp32, int8):
        assert model.bytes == loaded.file_path(model.file).stat().st_size
        assert model.minimum_runtime == "onnxruntime>=1.14"
        assert model.pixel_mean == 128
        assert model.speed is not None
        assert model.accuracy is not None
        assert model.accuracy > 0.95
    assert (fp32.input.dtype, int8.input.dtype) == ("float32", "uint8")
    assert (fp32.quantization, int8.quantization) == (None, "static_int8")
    assert fp32.agreement == 1.0
    assert fp32.drop == 0.0
    assert int8.drop_interval is not None
    assert int8.drop_interval[0] <= int8.drop <= int8.drop_interval[1]
    assert fp32.teacher_agreement == pytest.approx(0.75, abs=0.03)


def test_fp32_files_can_be_left_out_after_they_were_compared(student: nn.Module, tmp_path: Path) -> None:
    exported = export_bundle(student, blobs.job(settings=Export(formats=("onnx",), fp32=False)), tmp_path / "bundle")
    assert [rung.file for rung in exported.rungs] == ["blobs-fp32.onnx", "blobs-int8.onnx"]
    assert [model.file for model in exported.bundle.manifest.files] == ["blobs-int8.onnx"]
    assert sorted(item.name for item in (tmp_path / "bundle").iterdir()) == ["blobs-int8.onnx", *BESIDE]


def test_the_folder_holds_what_the_manifest_names(done: tuple[Exported, list[str]]) -> None:
    folder = done[0].bundle.path
    assert sorted(item.name for item in folder.iterdir()) == ["blobs-fp32.onnx", "blobs-int8.onnx", *BESIDE]
    assert [item.name for item in folder.parent.iterdir()] == ["bundle"]
    assert str(folder).encode() not in (folder / "manifest.json").read_bytes()


def test_the_manifest_says_that_the_graph_normalizes(done: tuple[Exported, list[str]]) -> None:
    spec = done[0].bundle.manifest.input
    assert spec == blobs.SPEC
    assert spec.mean is spec.std is None


def test_provenance_is_kept_and_the_tools_are_added(done: tuple[Exported, list[str]]) -> None:
    provenance = done[0].bundle.manifest.provenance
    kept = msgspec.structs.replace(provenance, versions={}, calibrations=[])
    assert kept == msgspec.structs.replace(blobs.PROVENANCE, versions={})
    assert provenance.versions["edgedistill"] == "0"
    assert provenance.versions["torch"] == torch.__version__.partition("+")[0]
    assert (provenance.versions["onnx opset"], provenance.versions["onnx ir"]) == ("18", "8")


def test_the_golden_pair_is_what_an_engine_answers(done: tuple[Exported, list[str]]) -> None:
    loaded = done[0].bundle
    assert loaded.manifest.golden is not None
    with np.load(loaded.file_path(loaded.manifest.golden.file)) as pair:
        for model in loaded.manifest.files:
            engine, prepare = open_engine(loaded, model.file), Preprocessor(loaded.manifest.input)
            found = [engine.run(prepare(frame)) for frame in pair["frames_bgr"]]
            assert np.array_equal(found, pair[f"logits/{model.file}"])


def test_the_ranges_are_in_the_bundle(done: tuple[Exported, list[str]]) -> None:
    loaded = done[0].bundle
    (entry,) = loaded.manifest.provenance.calibrations
    assert (entry.student, entry.method, entry.images) == ("trained", "percentile", 32)
    assert "pixels_nhwc" in calibration.read(loaded.file_path(entry.file))


def test_the_ladder_the_audits_and_the_times_are_told(done: tuple[Exported, list[str]]) -> None:
    exported, told = done
    assert [rung.file for rung in exported.rungs] == ["blobs-fp32.onnx", "blobs-int8.onnx"]
    assert all(rung.ok and rung.images == 256 for rung in exported.rungs)
    assert list(exported.audits) == ["blobs-fp32.onnx", "blobs-int8.onnx"]
    assert list(exported.seconds) == list(dict.fromkeys(told))
    assert min(exported.seconds.values()) > 0
    assert [message.split()[0] for message in told] == [
        *("tracing", "writing", "comparing", "timing"),
        *("calibrating", "quantizing", "comparing", "timing"),
    ]
    assert "blobs-int8.onnx" in table(exported.rungs)


def test_what_was_tried_is_in_the_report(done: tuple[Exported, list[str]]) -> None:
    (attempt,) = done[0].attempts
    assert (attempt.format, attempt.student, attempt.quantization, attempt.kept) == ("onnx", "trained", "static_int8", True)
    text = (done[0].bundle.path / "report.md").read_text()
    assert "| onnx | static_int8 | +0.00 |" in text
    assert "AVX2" in text or "VNNI" in text or "ARM" in text
    assert "calibrating the student on 32 images" in text


def test_an_int8_file_that_is_no_smaller_is_said(done: tuple[Exported, list[str]]) -> None:
    fp32, int8 = done[0].bundle.manifest.files
    said = [note for note in done[0].notes if "no smaller" in note]
    assert len(said) == (int8.bytes >= fp32.bytes)


# From here on a finished file stands in for the exporter, so that each test takes little time.


@pytest.fixture(scope="module")
def written(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the student's fp32 ONNX file as it is written."""
    path = tmp_path_factory.mktemp("written") / "blobs.onnx"
    write_onnx(graph, path)
    return path


@pytest.fixture
def quick(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the ONNX writer hand out the module's file."""
    monkeypatch.setattr(forms, "write_fp32", lambda graph, path, *, onnx2tf: shutil.copy(written, path))


def failing(error: BaseException) -> Callable[..., None]:
    """Return a writer that writes half a file and fails."""

    def write(graph: object, path: Path, *, onnx2tf: Path | None) -> None:
        path.write_bytes(b"half")
        raise error

    return write


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), ConvertError, "No space left.*free some space"),
        (ConvertError("the exporter says no"), ConvertError, "says no"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
@pytest.mark.parametrize("old", [False, True])
def test_a_step_that_fails_leaves_nothing_or_the_old_bundle(
    student: nn.Module, done, tmp_path: Path, monkeypatch, error: BaseException, raised: type, message: str | None, old: bool
) -> None:
    out = tmp_path / "bundle"
    if old:
        shutil.copytree(done[0].bundle.path, out)
    monkeypatch.setattr(forms, "write_fp32", failing(error))
    with pytest.raises(raised, match=message):
        export_bundle(student, blobs.job(), out)
    assert [item.name for item in tmp_path.iterdir()] == (["bundle"] if old else [])
    if old:
        assert bundle.load(out).manifest == done[0].bundle.manifest


@pytest.mark.usefixtures("quick")
def test_a_file_of_another_student_breaks_the_ladder(tmp_path: Path) -> None:
    torch.manual_seed(1)
    other = blobs.Student().eval()
    with pytest.raises(ParityError, match=r"blobs-fp32\.onnx does not answer like the student") as caught:
        export_bundle(other, blobs.job(settings=FP32_ONLY), tmp_path / "bundle")
    assert "BROKEN" in caught.value.table
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_colours_swapped_between_student_and_file_break_the_ladder(student: nn.Module, tmp_path: Path) -> None:
    class Swapped(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return student(x.flip(1))

    with pytest.raises(ParityError):
        export_bundle(Swapped(), blobs.job(settings=FP32_ONLY), tmp_path / "bundle")


@pytest.mark.usefixtures("quick")
def test_an_old_bundle_is_replaced(student: nn.Module, done, tmp_path: Path) -> None:
    out = Path(shutil.copytree(done[0].bundle.path, tmp_path / "bundle"))
    exported = export_bundle(student, blobs.job(name="next", settings=FP32_ONLY), out)
    assert sorted(item.name for item in out.iterdir()) == ["golden.npz", "manifest.json", "next-fp32.onnx", "report.md"]
    assert exported.bundle.manifest.files[0].teacher_agreement is None
    assert predict_logits(out, blobs.frames(2, seed=9)[0]).shape == (2, 6)


@pytest.mark.usefixtures("quick")
def test_fp32_needs_no_calibration_images(student: nn.Module, tmp_path: Path) -> None:
    exported = export_bundle(student, blobs.job(settings=FP32_ONLY, calibration_frames_bgr=[]), tmp_path / "b")
    assert [model.precision for model in exported.bundle.manifest.files] == ["fp32"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"calibration_frames_bgr": blobs.frames(15, seed=3)[0]}, "at least 16 calibration images, got 15"),
        ({"calibration_frames_bgr": np.zeros((40, 24, 32, 3), np.uint8)}, "all 40 calibration images are alike"),
        ({"test_labels": np.zeros(5, int)}, "256 test images have 5 labels"),
        ({"labels": ["a", "b"]}, r"returns \(1, 6\) for one image, expected \(1, 2\)"),
        ({"settings": Export(formats=())}, "export.formats is empty"),
        ({"settings": Export(fp32=False, int8=False)}, "both false"),
        ({"teacher_logits": np.zeros((256, 5))}, r"teacher's logits have shape \(256, 5\), expected \(256, 6\)"),
        ({"preprocess": Preprocess(height=16, width=16, color="BGR")}, "raw RGB pixels"),
    ],
)
def test_a_job_that_cannot_be_done_is_refused_before_anything_is_written(
    student: nn.Module, tmp_path: Path, changes: dict, message: str
) -> None:
    with pytest.raises(ConvertError, match=message):
        export_bundle(student, blobs.job(**changes), tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_too_few_test_images(student: nn.Module, tmp_path: Path) -> None:
    frames, labels = blobs.frames(100, seed=2)
    with pytest.raises(ConvertError, match="at least 256 test images, got 100"):
        export_bundle(student, blobs.job(test_frames_bgr=frames, test_labels=labels, settings=FP32_ONLY), tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_weights_with_nan(tmp_path: Path) -> None:
    student = blobs.Student()
    with torch.no_grad():
        student.head.weight[0, 0] = float("nan")
    with pytest.raises(ConvertError, match=r"head\.weight has NaN"):
        export_bundle(student, blobs.job(), tmp_path / "bundle")


def test_a_folder_of_something_else_is_refused_at_once(student: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ConvertError, match="not empty and not a bundle"):
        export_bundle(student, blobs.job(), tmp_path, progress=pytest.fail)


@pytest.mark.slow
def test_a_mobilenet_as_all_four_files(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    import timm

    torch.manual_seed(0)
    spec = Preprocess(height=32, width=32, resize="crop", interpolation="area")
    network = timm.create_model("mobilenetv4_conv_small_035", num_classes=6)
    network.conv_stem.stride = (1, 1)
    blobs.train(network, spec=spec, steps=80)
    capfd.readouterr()
    exported = export_bundle(network, blobs.job(name="v4", preprocess=spec, settings=Export()), tmp_path / "v4")
    out, err = capfd.readouterr()
    assert out == ""
    assert [line for line in err.splitlines() if not line.startswith("INFO: Created TensorFlow Lite XNNPACK")] == []
    loaded = bundle.load(tmp_path / "v4")
    assert [model.file for model in loaded.manifest.files] == ["v4-fp32.onnx", "v4-fp32.tflite", "v4-int8.onnx", "v4-int8.tflite"]
    assert [model.partitions for model in loaded.manifest.files] == [None, 1, None, 1]
    assert [model.input.dtype for model in loaded.manifest.files] == ["float32", "float32", "uint8", "uint8"]
    assert all(rung.ok and rung.accuracy > 0.9 for rung in exported.rungs), table(exported.rungs)
    assert not any("TRANSPOSE" in note for note in exported.notes)
    assert all(finding.kind == "slower" for audit in exported.audits.values() for finding in audit.findings if audit.partitions)
    assert loaded.manifest.files[3].bytes < loaded.manifest.files[1].bytes / 2.5
    for model in loaded.manifest.files:
        assert str(tmp_path).encode() not in loaded.file_path(model.file).read_bytes()
