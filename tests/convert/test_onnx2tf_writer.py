"""onnx2tf in an environment of its own: how it is found, called and checked, and, where there is one, what it really writes."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import time
from pathlib import Path

import blobs
import numpy as np
import pytest
from torch import nn

from edgedistill.convert import onnx2tf_writer
from edgedistill.convert.graph import centred, logits_of, prepare
from edgedistill.convert.onnx2tf_writer import VARIABLE, find_python, write_by_onnx2tf
from edgedistill.convert.onnx_file import write_onnx
from edgedistill.errors import ConvertError
from edgedistill.recipe import HALF_MEAN, HALF_STD

REAL = os.environ.get(VARIABLE)
TINY = Path(__file__).parents[1] / "data" / "tiny-fp32.tflite"
#: Stands for the Python of an environment: answers the question for onnx2tf's version, then what the test says.
FAKE = """#!{python}
import json, os, pathlib, shutil, sys, time
if sys.argv[1] == "-c":
    sys.exit({version_exit})
out = pathlib.Path(sys.argv[sys.argv.index("-o") + 1])
out.mkdir()
pathlib.Path({seen!r}).write_text(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]))
{then}
"""
COPY = f"shutil.copy({str(TINY)!r}, out / 'student_float32.tflite')"


@pytest.fixture(autouse=True)
def no_environment_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def fake(tmp_path: Path):
    """Make a fake Python that does something when it is asked to convert."""

    def make(then: str = COPY, *, version_exit: str = "0") -> Path:
        path = tmp_path / "environment" / "python"
        path.parent.mkdir(exist_ok=True)
        path.write_text(FAKE.format(python=sys.executable, version_exit=version_exit, seen=str(tmp_path / "seen.json"), then=then))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return make


@pytest.fixture(scope="module")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an ONNX file with the input of the tiny TFLite file."""
    import onnx
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(TINY))
    shape = [int(side) for side in interpreter.get_input_details()[0]["shape"]]
    image = onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, shape)
    same = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, shape)
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["pixels"], ["logits"])], "tiny", [image], [same])
    path = tmp_path_factory.mktemp("tiny") / "tiny-fp32.onnx"
    onnx.save(onnx.helper.make_model(graph), str(path))
    return path


def test_its_file_comes_to_the_place_that_is_asked_for(fake, tiny_onnx: Path, tmp_path: Path) -> None:
    write_by_onnx2tf(tiny_onnx, tmp_path / "deep" / "x.tflite", python=fake())
    assert (tmp_path / "deep" / "x.tflite").read_bytes() == TINY.read_bytes()
    assert [item.name for item in (tmp_path / "deep").iterdir()] == ["x.tflite"]


def test_how_it_is_called(fake, tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    monkeypatch.setenv("PYTHONPATH", "/ours")
    monkeypatch.setenv("VIRTUAL_ENV", "/ours")
    write_by_onnx2tf(tiny_onnx, tmp_path / "x.tflite", python=fake())
    arguments, environment, folder = json.loads((tmp_path / "seen.json").read_text())
    assert arguments[:2] == ["-m", "onnx2tf"]
    assert arguments[arguments.index("--tflite_backend") + 1] == "flatbuffer_direct"
    assert arguments[arguments.index("--keep_shape_absolutely_input_names") + 1] == "pixels"
    assert not {"PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME"} & set(environment)
    assert environment["PYTHONHASHSEED"] == "0"
    assert not Path(folder).exists()
    assert "tiny-fp32" not in " ".join(arguments)


def test_the_environment_is_named_by_argument_or_variable(fake, monkeypatch: pytest.MonkeyPatch) -> None:
    python = fake()
    assert find_python(python) == python
    assert find_python(str(python)) == python
    monkeypatch.setenv(VARIABLE, str(python))
    assert find_python() == python
    with pytest.raises(ConvertError, match="'/nowhere/python'"):
        find_python("/nowhere/python")


def test_the_link_in_an_environment_is_not_followed(fake, tmp_path: Path) -> None:
    link = tmp_path / "linked"
    link.symlink_to(fake())
    assert find_python(link) == link


@pytest.mark.parametrize("given", [None, ""])
def test_no_environment_says_how_to_make_one(given: str | None) -> None:
    with pytest.raises(
        ConvertError, match=rf"none is named; make one with: python3.12 -m venv .*pip install onnx2tf.*--onnx2tf .*{VARIABLE}"
    ):
        find_python(given)


def test_a_file_that_is_no_executable(tmp_path: Path) -> None:
    (tmp_path / "python").write_text("x")
    with pytest.raises(ConvertError, match="is no executable Python; make one with"):
        find_python(tmp_path / "python")


def test_an_executable_that_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "python").write_text("#!/nowhere/interpreter\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(ConvertError, match=r"has no onnx2tf: .*No such file"):
        find_python(tmp_path / "python")


def test_an_environment_without_onnx2tf(fake) -> None:
    python = fake(version_exit="'PackageNotFoundError: No package metadata was found for onnx2tf'")
    with pytest.raises(ConvertError, match=r"python has no onnx2tf: PackageNotFoundError: .*; make one with"):
        find_python(python)


@pytest.mark.parametrize(
    ("then", "message"),
    [
        ("print('lowering'); sys.exit('unsupported op: Foo')", "could not convert tiny-fp32.onnx: unsupported op: Foo; leave tflite out"),
        ("sys.exit(7)", "could not convert tiny-fp32.onnx: exit code 7"),
        ("sys.stderr.write('10%\\rfailed here\\r'); sys.exit(1)", "could not convert tiny-fp32.onnx: failed here"),
        ("", "wrote no student_float32.tflite; this is made for onnx2tf 2.6"),
        ("(out / 'student_float32.tflite').write_bytes(b'half')", "tflite"),
    ],
)
def test_its_failures_are_told_and_leave_nothing(fake, tiny_onnx: Path, tmp_path: Path, then: str, message: str) -> None:
    with pytest.raises(ConvertError, match=message):
        write_by_onnx2tf(tiny_onnx, tmp_path / "x.tflite", python=fake(then))
    assert not list(tmp_path.glob("*x.tflite*"))


def test_another_input_is_refused(fake, tmp_path: Path) -> None:
    import onnx

    image = onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, [1, 7, 5, 3])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["pixels"], ["logits"])], "x", [image], [image])
    graph.output[0].name = "logits"
    onnx.save(onnx.helper.make_model(graph), str(tmp_path / "x.onnx"))
    with pytest.raises(ConvertError, match=r"turned the input into .*expected float32 \[1, 7, 5, 3\]"):
        write_by_onnx2tf(tmp_path / "x.onnx", tmp_path / "x.tflite", python=fake())


def test_it_does_not_wait_for_ever(fake, tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx2tf_writer, "_MINUTES", 0.5 / 60)
    start = time.monotonic()
    with pytest.raises(ConvertError, match="was not done in"):
        write_by_onnx2tf(tiny_onnx, tmp_path / "x.tflite", python=fake("time.sleep(60)"))
    assert time.monotonic() - start < 50


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason=f"{VARIABLE} names no environment with onnx2tf")
def test_the_real_one_answers_like_torch_and_writes_the_same_bytes_again(student: nn.Module, tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    graph = prepare(student, blobs.SPEC, mean=HALF_MEAN, std=HALF_STD, classes=len(blobs.LABELS))
    write_onnx(graph, tmp_path / "blobs.onnx")
    write_by_onnx2tf(tmp_path / "blobs.onnx", tmp_path / "blobs.tflite", python=REAL)
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(tmp_path / "blobs.onnx", tmp_path / "elsewhere" / "other.onnx")
    write_by_onnx2tf(tmp_path / "elsewhere" / "other.onnx", tmp_path / "again.tflite", python=REAL)
    assert (tmp_path / "again.tflite").read_bytes() == (tmp_path / "blobs.tflite").read_bytes()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    interpreter = Interpreter(str(tmp_path / "blobs.tflite"), num_threads=1)
    interpreter.allocate_tensors()
    found = []
    for image in centred(graph, pixels).numpy():
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[np.newaxis])
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    assert np.stack(found) == pytest.approx(logits_of(graph, pixels), abs=1e-4)
