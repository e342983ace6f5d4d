"""The [student.prune] table: what it takes, what it refuses, and that recipes without it stay what they were."""

from pathlib import Path

import pytest

from edgedistill.errors import RecipeError
from edgedistill.recipe import Prune, decode, digest, encode, load

PLAIN = """
name = "thin"
data = { source = "embedded" }
student = { model = "timm:mobilenetv2_050", weights = "whole.safetensors" }
train = { epochs = 1 }
"""


def test_a_recipe_without_the_table_does_not_know_of_it() -> None:
    assert decode(PLAIN).student.prune is None
    assert "prune" not in encode(decode(PLAIN))


@pytest.mark.parametrize("given", ["ratio=0.5", "macs=0.5", "bytes=200000", "latency_ms=4"])
def test_the_table_is_written_read_and_part_of_the_digest(given: str) -> None:
    found = decode(PLAIN, overrides=[f"student.prune.{given}"])
    assert decode(encode(found)) == found
    assert digest(found) != digest(decode(PLAIN))
    assert found.student.prune is not None
    assert (found.student.prune.importance, found.student.prune.round_to, found.student.prune.file) == ("l2", 8, "tflite-fp32")


def test_defaults_do_not_count_in_the_digest() -> None:
    short = decode(PLAIN, overrides=["student.prune.ratio=0.5"])
    long = decode(PLAIN, overrides=["student.prune={ratio=0.5, importance='l2', round_to=8, ignore=[]}"])
    assert digest(short) == digest(long)


def test_a_target_may_have_the_ratio_that_was_found_for_it() -> None:
    found = decode(PLAIN, overrides=["student.prune={latency_ms=4, ratio=0.25}"]).student.prune
    assert found == Prune(latency_ms=4, ratio=0.25)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("student.prune={}", "student.prune: prune needs ratio, or a target: macs, bytes or latency_ms"),
        ("student.prune.ratio=0", "student.prune.ratio = 0: expected `float` > 0.0"),
        ("student.prune.ratio=1", "student.prune.ratio = 1: expected `float` < 1.0"),
        ("student.prune.macs=2", "student.prune.macs = 2: expected `float` < 1.0"),
        ("student.prune.bytes=0", "student.prune.bytes = 0: expected `int` >= 1"),
        ("student.prune.latency_ms=0", "student.prune.latency_ms = 0: expected `float` > 0.0"),
        ("student.prune={macs=0.5, bytes=100}", "student.prune: prune has the targets macs and bytes, expected one"),
        ("student.prune={bytes=100, profile='devices/rpi4'}", "student.prune: prune.profile is for latency_ms"),
        ("student.prune={ratio=0.5, importance='l3'}", "student.prune.importance = 'l3': expected one of 'l2', 'batch_norm', 'random'"),
        ("student.prune={ratio=0.5, round=8}", "unknown key 'student.prune.round'. Did you mean 'round_to'"),
        ("student.prune={ratio=0.5, file='onnx'}", "student.prune.file = 'onnx': expected one of 'tflite-fp32', 'tflite-int8'"),
    ],
)
def test_what_is_refused_and_how(override: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        decode(PLAIN, overrides=[override])
    assert said in str(caught.value)


def test_a_board_s_folder_is_a_path_from_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(PLAIN)
    overrides = ["student.prune={latency_ms=4, profile='devices/rpi4'}"]
    found = load(tmp_path / "recipe.toml", overrides=overrides)
    assert found.student.prune is not None
    assert found.student.prune.profile == str(tmp_path / "devices" / "rpi4")
    assert 'profile = "devices/rpi4"' in encode(found, relative_to=tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "recipe.toml").write_text(PLAIN)
    assert digest(load(tmp_path / "other" / "recipe.toml", overrides=overrides)) == digest(found)
