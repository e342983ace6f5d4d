"""`doctor`: what is there, what is missing, and the line that installs it."""

import importlib.metadata
import json

import pytest

from edgedistill.cli import doctor, run
from edgedistill.cli.doctor import ABILITIES, examine


def test_json_names_engines_cpu_and_abilities(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    assert found["environment"]["cores"] >= 1
    assert isinstance(found["environment"]["int8"], list)
    assert found["engines"]["litert"] == importlib.metadata.version("ai-edge-litert")
    assert isinstance(found["cameras"], list)
    assert [entry["what"] for entry in found["abilities"]] == [ability.what for ability in ABILITIES]


def test_what_is_missing_comes_with_its_install_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = importlib.metadata.version

    def version(package: str) -> str:
        if package == "onnxruntime":
            raise importlib.metadata.PackageNotFoundError(package)
        return real(package)

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    assert run(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "pip install 'edgedistill[onnx]'" in shown
    assert "pip install 'edgedistill[workstation]'" in shown


@pytest.mark.parametrize("ability", ABILITIES, ids=lambda ability: ability.what)
def test_each_install_line_names_an_extra_that_has_the_packages(ability: doctor.Ability) -> None:
    required = importlib.metadata.requires("edgedistill") or []
    of_extra = " ".join(line for line in required if f'extra == "{ability.extra}"' in line)
    for package in ability.packages:
        assert package in of_extra


def test_an_ability_is_ready_when_all_its_packages_are_there() -> None:
    assert examine(doctor.Ability("x", ("numpy", "no-such-package"), "litert"))["ready"] is False
    found = examine(doctor.Ability("x", ("numpy", "msgspec"), "litert"))
    assert (found["ready"], found["install"]) == (True, None)
