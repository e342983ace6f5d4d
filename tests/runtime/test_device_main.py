"""The device's command line in this process: flags, outputs, exit codes, signals."""

from __future__ import annotations

import io
import json
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_bundle

from edgedistill.runtime import commands, engines
from edgedistill.runtime.__main__ import main, parser
from edgedistill.runtime.camera import Result
from edgedistill.runtime.frames import Frame
from edgedistill.runtime.monitor import Monitor
from edgedistill.runtime.results import read_results

FAST = "test://pattern?fps=0&width=64&height=48&frames=4"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a folder of one card a colour, in the order of the labels."""
    folder = tmp_path / "cards"
    folder.mkdir()
    for number, label in enumerate(tiny_bundle.LABELS):
        cv2.imwrite(str(folder / f"{number}.png"), tiny_bundle.card(label))
    return folder


def test_camera_as_json_lines(bundle_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["camera", str(bundle_path), "--source", str(images), "--output", "jsonl", "--top-k", "2"]) == 0
    captured = capsys.readouterr()
    lines = list(read_results(io.StringIO(captured.out), finished=True))
    assert [line.top_k[0].label for line in lines] == tiny_bundle.LABELS
    assert [len(line.top_k) for line in lines] == [2, 2, 2]
    assert [line.frame_id for line in lines] == [0, 1, 2]
    assert "3 frames" in captured.err
    assert "0 dropped" in captured.err


def test_camera_as_text(bundle_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["camera", str(bundle_path), "--source", str(images), "--frames", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["red", "green"]


def test_camera_counts_what_it_cannot_read(bundle_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (images / "1.png").write_bytes(b"broken")
    assert main(["camera", str(bundle_path), "--source", str(images)]) == 0
    assert "2 frames" in (told := capsys.readouterr().err)
    assert "1 could not be read" in told


def test_camera_saves_the_annotated_video(bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "out.avi"
    assert main(["camera", str(bundle_path), "--source", FAST, "--save", str(saved)]) == 0
    capture = cv2.VideoCapture(str(saved))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    assert main(["camera", str(bundle_path), "--source", str(saved), "--save", str(saved)]) == 1
    assert "it is what is being read" in capsys.readouterr().err


def test_camera_shows_until_q(bundle_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    keys = iter([-1, -1, ord("q"), -1])
    monkeypatch.setenv("DISPLAY", ":0")
    for name, fake in (("namedWindow", lambda *a: None), ("imshow", lambda *a: None), ("destroyAllWindows", lambda: None)):
        monkeypatch.setattr(cv2, name, fake, raising=False)
    monkeypatch.setattr(cv2, "waitKey", lambda delay: next(keys), raising=False)
    assert main(["camera", str(bundle_path), "--source", FAST, "--show"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--source", "missing.mp4"], 4, "'missing.mp4' does not exist"),
        (["--source", "test://pattern?fps=x"], 4, "fps"),
        (["--source", FAST, "--engine", "nope"], 1, "there is no engine 'nope'"),
        (["--source", FAST, "--file", "nope.tflite"], 1, "has no model file 'nope.tflite'"),
        (["--source", FAST, "--save", "out.txt"], 1, "ends in .mp4 or .avi"),
        (["--source", FAST, "--threads", "0"], 2, "expected a number of 1 or more"),
        (["--source", FAST, "--threads", "many"], 2, "--threads"),
        (["--source", FAST, "--threads", "auto"], 2, "--threads"),
        (["--source", FAST, "--top-k", "0"], 2, "--top-k"),
        (["--source", FAST, "--threshold", "1.5"], 2, "expected a number from 0 to 1"),
        (["--source", FAST, "--threshold", "nan"], 2, "--threshold"),
        (["--source", FAST, "--duration", "0"], 2, "--duration"),
        (["--source", FAST, "--duration", "inf"], 2, "--duration"),
        (["--source", FAST, "--frames", "-1"], 2, "--frames"),
        (["--source", FAST, "--output", "xml"], 2, "--output"),
        (["--source", FAST, "--rotate", "45"], 2, "--rotate"),
        (["--source", FAST, "--roi", "1,2"], 4, "four numbers X,Y,WIDTH,HEIGHT"),
        (["--sauce", FAST], 2, "unrecognized arguments"),
    ],
)
def test_wrong_arguments(bundle_path: Path, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        found = main(["camera", str(bundle_path), *arguments])
    except SystemExit as stop:
        found = stop.code  # type: ignore[assignment]
    captured = capsys.readouterr()
    assert found == code
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("command", ["camera", "profile", "selfcheck", "info"])
def test_a_missing_bundle_and_a_missing_interpreter(
    command: str, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(tmp_path / "none")]) == 1
    assert "is not a bundle" in capsys.readouterr().err
    monkeypatch.setattr(engines, "installed_engines", dict)
    assert main([command, str(bundle_path)]) == (0 if command == "info" else 1)
    assert ("pip install 'edgedistill[litert]'" in capsys.readouterr().err) == (command != "info")


@pytest.mark.parametrize("threads", ["1", "auto"])
def test_profile(bundle_path: Path, threads: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["profile", str(bundle_path), "--threads", threads, "--runs", "3", "--file", "tflite-fp32"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["file"], found["runs"]) == (1, "tiny-fp32.tflite", 3)
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "tiny-fp32.tflite by litert" in text
    assert [line.split()[0] for line in text.splitlines()[2:7]] == ["capture", "preprocess", "invoke", "postprocess", "total"]
    assert "int8 instructions" in text


def test_selfcheck(bundle_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selfcheck", str(bundle_path)]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [["ok", file] for file in tiny_bundle.FILES]
    assert main(["selfcheck", str(bundle_path), "--json", "--file", "onnx-fp32"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(check["file"], check["state"]) for check in found["checks"]] == [("tiny-fp32.onnx", "ok")]


def test_selfcheck_that_fails(own_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = engines.as_bundle(own_bundle)
    frames = np.stack([tiny_bundle.card("red")])
    tiny_bundle.save_golden(loaded, frames, {file: np.array([[0, 0, 9]], np.float32) for file in tiny_bundle.FILES})
    assert main(["selfcheck", str(own_bundle)]) == 1
    captured = capsys.readouterr()
    assert captured.out.count("failed") == 3
    assert "does not answer here as it did where it was made" in captured.err


def test_info(bundle_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(bundle_path)]) == 0
    text = capsys.readouterr().out
    assert "tiny: classification, 3 classes: red, green, blue" in text
    assert all(file in text for file in tiny_bundle.FILES)
    assert main(["info", str(bundle_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["manifest"]["labels"] == tiny_bundle.LABELS


def test_a_bug_writes_a_log_and_one_line(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object, **options: object) -> int:
        raise RuntimeError("this is the bug")

    monkeypatch.setattr(commands, "info_command", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["info", str(bundle_path)]) == 3
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    log = next(tmp_path.glob("edgedistill-*.log"))
    assert str(log) in told
    assert "RuntimeError: this is the bug" in log.read_text()


def test_an_interrupt_elsewhere_is_130(bundle_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*arguments: object, **options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "profile_command", interrupted)
    assert main(["profile", str(bundle_path)]) == 130
    assert "Interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_a_summary(
    bundle_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add = Monitor.add

    def add_and_signal(monitor: Monitor, frame: Frame, result: Result) -> None:
        add(monitor, frame, result)
        if monitor.status().results == 3:
            signal.raise_signal(number)

    monkeypatch.setattr(Monitor, "add", add_and_signal)
    assert main(["camera", str(bundle_path), "--source", "test://pattern?width=64&height=48&fps=50"]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 3
    assert "3 frames" in captured.err


@pytest.mark.parametrize("command", ["camera", "profile", "selfcheck", "info"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parser().parse_args([command, "--help"])
    assert stop.value.code == 0
    assert f"Example: python -m edgedistill.runtime {command} BUNDLE" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("arguments", [[], ["dance"]])
def test_no_command_or_an_unknown_one_is_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage" in capsys.readouterr().err
