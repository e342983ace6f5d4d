"""The proof on ARM: the shipped bundles in an emulated Raspberry Pi 4's userland, installed as a user would; and its pure parts."""

from __future__ import annotations

from pathlib import Path

import pytest
from arm_apt import Index, NotHere, check_host, sources_of
from arm_board import CORES, board_files, write_board
from arm_proof import prove
from arm_userland import SUITES, complete, is_complete, start_over

from edgedistill.runtime.conditions import cpu_model, int8_instructions, temperature_c


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_raspberry_pi_4_answers_like_this_machine() -> None:
    try:
        found = prove()["suites"]
    except NotHere as error:
        pytest.skip(str(error))
    assert {suite: one["versions"]["python"].rpartition(".")[0] for suite, one in found.items()} == SUITES
    for one in found.values():
        assert one["versions"]["board"].startswith("Raspberry Pi 4")
        assert all(row["same_answers"] == row["frames"] for row in one["clip"])
        assert {row["file"] for row in one["photographs"]} >= {"fashion-mnist-mobilenetv3-int8.tflite"}
    counted = found["bookworm"]["instructions"]
    assert isinstance(counted, dict), counted
    assert all(0 < counts["vector"] < counts["all"] and counts["dot_product"] == 0 for counts in counted.values())


def test_the_board_is_read_as_one(tmp_path: Path) -> None:
    write_board(tmp_path)
    cpuinfo = (tmp_path / "proc/cpuinfo").read_text()
    assert cpuinfo.count("processor") == CORES
    assert cpu_model(tmp_path, cpuinfo) == "Raspberry Pi 4 Model B Rev 1.4"
    assert int8_instructions(cpuinfo) == []
    assert temperature_c(tmp_path) == 45.0
    assert all((tmp_path / name).is_file() for name in board_files())


@pytest.mark.parametrize(("text", "message"), [("ID=ubuntu\nPRETTY_NAME=Ubuntu\n", "this is Ubuntu"), ("", "this is ")])
def test_other_systems_are_told_what_to_do(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "os-release").write_text(text)
    with pytest.raises(NotHere, match=f"{message}.*run it there, or in a container"):
        check_host(tmp_path / "os-release")


def test_another_release_comes_from_the_same_mirrors() -> None:
    indexes = [
        Index("http://mirror/debian", "bookworm", "main", "Debian"),
        Index("http://mirror/debian", "bookworm-updates", "main", "Debian"),
        Index("http://mirror/debian", "bookworm", "contrib", "Debian"),
        Index("http://mirror/debian-security", "bookworm-security", "main", "Debian-Security"),
    ]
    found = [line.split()[-2:] for line in sources_of(indexes, host="bookworm", release="trixie")]
    assert found == [["trixie", "main"], ["trixie-updates", "main"], ["trixie-security", "main"]]


def test_what_was_built_halfway_is_built_again(tmp_path: Path) -> None:
    folder = tmp_path / "root"
    start_over(folder)
    assert not is_complete(folder, "a")
    complete(folder, "a")
    assert is_complete(folder, "a")
    assert not is_complete(folder, "b")
    start_over(folder)
    assert not is_complete(folder, "a")
    assert list(folder.iterdir()) == []
