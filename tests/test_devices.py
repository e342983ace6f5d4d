"""The boards' profiles: complete, plausible, and quoting the published figures; the README is made from them."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from edgedistill.runtime.engines import ENGINES

ROOT = Path(__file__).parents[1]
DEVICES = ROOT / "devices"
BOARDS = ("android", "laptop", "rpi-zero2w", "rpi4", "rpi5")


def load_matrix() -> ModuleType:
    spec = importlib.util.spec_from_file_location("devices_matrix", DEVICES / "matrix.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


matrix = load_matrix()

# --- profiles and their figures -----------------------------------------------------------------------------------------------

#: What was published: board, network, precision, threads, milliseconds, how the source's name starts.
PUBLISHED = {
    ("rpi4", "mobilenet_v1", "fp32", "all", 77.0, "google/XNNPACK"),
    ("rpi4", "mobilenet_v1", "int8", "all", 24.0, "google/XNNPACK"),
    ("rpi4", "mobilenet_v2", "fp32", "all", 46.0, "google/XNNPACK"),
    ("rpi4", "mobilenet_v2", "int8", "all", 17.0, "google/XNNPACK"),
    ("rpi4", "mobilenet_v3_large", "fp32", "all", 40.0, "google/XNNPACK"),
    ("rpi4", "mobilenet_v3_small", "fp32", "all", 15.0, "google/XNNPACK"),
    ("rpi4", "mobilenet_v2", "fp32", "all", 41.0, "google/XNNPACK"),
    ("rpi4", "mobilenet_v2", "int8", "all", 20.0, "google/XNNPACK"),
    ("rpi4", "mobilenet_v2", "fp32", 1, 92.98, "Tencent/ncnn"),
    ("rpi4", "mobilenet_v2", "fp32", 4, 61.63, "Tencent/ncnn"),
    ("rpi5", "mobilenet_v2_1.0", "fp32", "default", 10.89, "learn.arm.com"),
    ("rpi5", "mobilenet_v2_1.0", "int8", "default", 4.01, "learn.arm.com"),
    ("rpi5", "mobilenet_v1", "int8", 1, 14.38, "Tencent/ncnn"),
    ("rpi5", "mobilenet_v1", "int8", 4, 8.68, "Tencent/ncnn"),
    ("rpi5", "mobilenet_v2", "fp16", 1, 16.21, "Tencent/ncnn"),
    ("rpi5", "mobilenet_v2", "fp16", 4, 10.46, "Tencent/ncnn"),
    ("rpi5", "mobilenet_v3_large", "fp16", 1, 11.64, "Tencent/ncnn"),
    ("rpi5", "mobilenet_v3_large", "fp16", 4, 7.3, "Tencent/ncnn"),
    ("rpi-zero2w", "mobilenet_v1", "int8", 1, 286.58, "Tencent/ncnn"),
    ("rpi-zero2w", "mobilenet_v1", "int8", 4, 90.78, "Tencent/ncnn"),
    ("rpi-zero2w", "mobilenet_v2", "fp32", 1, 273.97, "Tencent/ncnn"),
    ("rpi-zero2w", "mobilenet_v2", "fp32", 4, 145.71, "Tencent/ncnn"),
    ("rpi-zero2w", "mobilenet_v3_large", "fp32", 1, 233.77, "Tencent/ncnn"),
    ("rpi-zero2w", "mobilenet_v3_large", "fp32", 4, 113.89, "Tencent/ncnn"),
    ("android", "efficientnet_lite0", "fp32", 4, 12.0, "tensorflow/tpu"),
    ("android", "efficientnet_lite0", "int8", 4, 6.5, "tensorflow/tpu"),
    ("android", "mobilenet_v2_1.0", "fp32", 4, 17.5, "tensorflow"),
    ("android", "mobilenet_v2_1.0", "int8", 4, 12.0, "tensorflow"),
    ("android", "mobilenet_v3_small", "fp32", "unstated", 5.82, "Arm"),
    ("android", "mobilenet_v3_small", "int8", "unstated", 3.05, "Arm"),
    ("android", "mobilenet_v2", "fp16", 1, 9.52, "Tencent/ncnn"),
    ("android", "mobilenet_v2", "fp16", 4, 3.13, "Tencent/ncnn"),
    ("laptop", "mobilenet_v2", "fp16", 12, 3.55, "Tencent/ncnn"),
    ("laptop", "mobilenet_v3_large", "fp16", 12, 3.28, "Tencent/ncnn"),
}


def test_each_board_has_its_folder_and_its_three_files() -> None:
    assert tuple(matrix.load_profiles()) == BOARDS
    for board in BOARDS:
        assert {"profile.toml", "setup.sh", "run.sh"} <= {file.name for file in (DEVICES / board).iterdir()}


@pytest.mark.parametrize("board", BOARDS)
def test_profiles_are_plausible(board: str) -> None:
    profile = matrix.load_profiles()[board]
    assert profile.recommended.threads <= profile.cores
    assert profile.memory_mb == sorted(profile.memory_mb)
    assert profile.recommended.engine in ENGINES
    assert len(set(profile.reference)) == len(profile.reference)


def test_every_quoted_latency_is_the_published_one() -> None:
    quoted = {
        (board, r.model, r.precision, r.threads, r.latency_ms, r.source.split()[0])
        for board, profile in matrix.load_profiles().items()
        for r in profile.reference
    }
    assert quoted == PUBLISHED


@pytest.mark.parametrize("board", BOARDS)
def test_benchncnn_on_armv8_2_is_said_to_be_fp16(board: str) -> None:
    profile = matrix.load_profiles()[board]
    modern = "ARMv8.2" in profile.isa
    for reference in profile.reference:
        if reference.engine == "ncnn" and reference.precision != "int8":
            assert reference.precision == ("fp16" if modern else "fp32")
            assert "fp16 on ARMv8.2" in reference.source


@pytest.mark.parametrize("board", BOARDS)
def test_sources_are_public(board: str) -> None:
    text = (DEVICES / board / "profile.toml").read_text()
    assert not re.search(r"\.\./|/home/|\.csv", text)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("cores = 4", "cors = 4", "unknown key 'cors'. Did you mean 'cores'"),
        ("cores = 4", "cores = '4'", "cores = '4': expected `int`, got `str`"),
        ('engine = "litert"', 'engine = "tensorflow"', "recommended.engine = 'tensorflow': expected one of 'litert', 'tflite-runtime'"),
        ('source = "picamera:0"', "", "recommended: object missing required field `source`"),
        ("latency_ms = 17.0", "latency_ms = 0.0", r"reference[3].latency_ms = 0.0"),
        ('threads = "all"', 'threads = "some"', "reference[0].threads = 'some'"),
        ("[recommended]", "[recommended", "profile.toml: "),
    ],
)
def test_a_broken_profile_says_where(tmp_path: Path, old: str, new: str, said: str) -> None:
    folder = tmp_path / "board"
    folder.mkdir()
    text = (DEVICES / "rpi4" / "profile.toml").read_text()
    assert old in text
    (folder / "profile.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        matrix.load_profiles(tmp_path)
    assert str(folder / "profile.toml") in str(caught.value)


def test_the_readmes_tables_are_those_of_the_profiles() -> None:
    text = (DEVICES / "README.md").read_text()
    assert matrix.fill(text, matrix.load_profiles()) == text, "run: python devices/matrix.py --write"
    for board in BOARDS:
        assert f"[{board}]({board}/profile.toml)" in text


def test_the_readme_needs_both_places() -> None:
    with pytest.raises(ValueError, match="no place for the support table"):
        matrix.fill("# Boards\n", matrix.load_profiles())


def test_a_changed_profile_changes_the_readme() -> None:
    text = (DEVICES / "README.md").read_text()
    profiles = matrix.load_profiles()
    assert matrix.fill(text, {"rpi5": profiles["rpi5"]}) != text
