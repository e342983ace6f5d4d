"""Weight files: what is in them and what is not."""

import json
import struct
from pathlib import Path

import pytest
import safetensors.torch
import tiny_network
import torch

from edgedistill.distill import weights
from edgedistill.errors import ModelError


def test_round_trip_with_card(tmp_path: Path) -> None:
    module, path = tiny_network.make(3), tmp_path / "w.safetensors"
    weights.save(module, path, {"name": "tiny", "classes": ["a", "b"]})
    assert weights.read_card(path) == {"name": "tiny", "classes": ["a", "b"]}
    loaded = safetensors.torch.load_file(path)
    assert loaded.keys() == module.state_dict().keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in module.state_dict().items())


def test_half_precision_halves_the_file_and_keeps_integers(tmp_path: Path) -> None:
    module = tiny_network.make(3, width=64)
    weights.save(module, tmp_path / "full.safetensors", {})
    weights.save(module, tmp_path / "half.safetensors", {}, half=True)
    full, half = ((tmp_path / f"{name}.safetensors").stat().st_size for name in ("full", "half"))
    assert 0.45 < half / full < 0.65
    loaded = safetensors.torch.load_file(tmp_path / "half.safetensors")
    assert loaded["0.weight"].dtype == torch.float16
    assert loaded["1.num_batches_tracked"].dtype == torch.int64


def test_a_file_of_another_maker_has_an_empty_card(tmp_path: Path) -> None:
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert weights.read_card(tmp_path / "other.safetensors") == {}


def header(text: str) -> bytes:
    """Return a file that begins with a header of this text, as safetensors writes it."""
    return struct.pack("<Q", len(text)) + text.encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        b"\xff" * 40,
        header("[" * 5000),
        header("[]"),
        header('{"__metadata__": []}'),
        header(json.dumps({"__metadata__": {weights.CARD_KEY: 5}})),
        header(json.dumps({"__metadata__": {weights.CARD_KEY: "[]"}})),
        header(json.dumps({"__metadata__": {weights.CARD_KEY: "[" * 5000}})),
    ],
)
def test_a_file_whose_card_cannot_be_read_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"w\.safetensors is not a readable safetensors file"):
        weights.read_card(tmp_path / "w.safetensors")


def test_saving_leaves_no_temporary_file_and_survives_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    weights.save(tiny_network.make(3), path, {"version": 1})
    before = path.read_bytes()
    monkeypatch.setattr("edgedistill.bundle.os.replace", _no_space)
    with pytest.raises(OSError, match="No space left"):
        weights.save(tiny_network.make(3), path, {"version": 2})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]


def _no_space(*paths: object) -> None:
    raise OSError(28, "No space left on device")
