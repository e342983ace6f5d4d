"""TFLite files by onnx2tf, where litert-torch cannot be installed: it runs in a Python environment of its own, by its command line.

onnx2tf asks for Python 3.12 and for exact versions of what we use as well, so it is never imported and never installed from
here. Its flatbuffer backend needs no TensorFlow. What it writes goes through the same gates as any other file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from edgedistill.bundle import write_atomically
from edgedistill.errors import ConvertError, MissingExtraError

#: The environment variable that names the environment's Python.
VARIABLE = "EDGEDISTILL_ONNX2TF"
#: The input of the ONNX files that we write: it keeps its shape (1, H, W, 3) instead of being taken for channels first.
INPUT = "pixels"
_INSTALL = "make one with: python3.12 -m venv onnx2tf && onnx2tf/bin/pip install onnx2tf, and name it with --onnx2tf onnx2tf/bin/python"
_MINUTES = 10


def find_python(given: str | os.PathLike[str] | None = None) -> Path:
    """Return the Python of the environment with onnx2tf: the given one, or the one that EDGEDISTILL_ONNX2TF names.

    Raises ConvertError where there is none, or where it has no onnx2tf.
    """
    named = given or os.environ.get(VARIABLE)
    if not named:
        raise ConvertError(f"the writer onnx2tf needs a Python environment of its own and none is named; {_INSTALL} or {VARIABLE}")
    found = shutil.which(os.fspath(named))
    if found is None:
        raise ConvertError(f"the environment of onnx2tf, {os.fspath(named)!r}, is no executable Python; {_INSTALL} or {VARIABLE}")
    # Not resolved: an environment's python is a link, and what it links to does not know of the environment.
    python = Path(found).absolute()
    _run([str(python), "-c", "import importlib.metadata as m; m.version('onnx2tf')"], failed=f"{python} has no onnx2tf", remedy=_INSTALL)
    return python


def write_by_onnx2tf(onnx_path: Path, path: Path, *, python: str | os.PathLike[str] | None = None) -> None:
    """Convert a float32 ONNX file with input `pixels` (1, H, W, 3) to a float32 TFLite file with the same input and output.

    Args:
        python: of an environment with onnx2tf; None takes the one that EDGEDISTILL_ONNX2TF names.

    Raises ConvertError where there is no such environment and where onnx2tf fails, with what it said last.
    """
    executable = find_python(python)
    with tempfile.TemporaryDirectory(prefix="onnx2tf-") as folder:
        # Under neutral names, and from a folder of its own: it leaves other files beside the one that is asked for.
        source, out = Path(folder, "student.onnx"), Path(folder, "out")
        shutil.copyfile(onnx_path, source)
        options = ["--tflite_backend", "flatbuffer_direct", "--keep_shape_absolutely_input_names", INPUT, "--non_verbose"]
        _run(
            [str(executable), "-m", "onnx2tf", "-i", str(source), "-o", str(out), *options],
            failed=f"onnx2tf could not convert {onnx_path.name}",
            remedy="leave tflite out of export.formats, or use litert-torch",
            folder=folder,
        )
        written = out / "student_float32.tflite"
        if not written.is_file():
            raise ConvertError(f"onnx2tf wrote no {written.name}; this is made for onnx2tf 2.6, update the environment or use litert-torch")
        _check_input(written, expected=_input_shape(source))
        write_atomically(path, written.read_bytes())


def _run(command: list[str], *, failed: str, remedy: str, folder: str | None = None) -> None:
    """Run a command of the environment, free of ours; raise ConvertError with its last words where it fails."""
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP")
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment | {"PYTHONHASHSEED": "0", "PYTHONNOUSERSITE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_MINUTES * 60,
        )
    except subprocess.TimeoutExpired as error:
        raise ConvertError(f"{failed}: it was not done in {_MINUTES} minutes; {remedy}") from error
    except OSError as error:
        raise ConvertError(f"{failed}: {error}; {remedy}") from error
    if done.returncode != 0:
        raise ConvertError(f"{failed}: {_last_words(done)}; {remedy}")


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"exit code {done.returncode}"


def _input_shape(path: Path) -> list[int]:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "workstation") from error
    image = onnx.load(path, load_external_data=False).graph.input[0]
    return [dimension.dim_value for dimension in image.type.tensor_type.shape.dim]


def _check_input(path: Path, *, expected: list[int]) -> None:
    """Raise ConvertError unless the file takes the same pixels as the ONNX file: onnx2tf guesses layouts from shapes."""
    from edgedistill.convert.tflite_file import describe_tflite

    image = describe_tflite(path).input
    if (image.dtype, image.shape) != ("float32", expected):
        raise ConvertError(
            f"onnx2tf turned the input into {image.dtype} {image.shape}, expected float32 {expected}; "
            "update its environment to onnx2tf 2.6 or use litert-torch"
        )
