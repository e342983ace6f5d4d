"""Small tar shards, written by the WebDataset library, and a web server that has them."""

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import webdataset

SIDE = 12


def pixels(number: int, side: int = SIDE) -> np.ndarray:
    """Return noise of its own for each number, (side, side, 3) uint8 BGR; classes (number % 3) differ in brightness."""
    noise = np.random.default_rng(number).integers(0, 100, (side, side, 3), np.uint8)
    return noise + np.uint8(70 * (number % 3))


def sample(number: int, **changes: Any) -> dict[str, Any]:
    """Return a sample of class `number % 3` with a PNG image; changes of None leave a member out."""
    whole = {"__key__": f"photo-{number:04}", "png": cv2.imencode(".png", pixels(number))[1].tobytes(), "cls": str(number % 3), **changes}
    return {name: value for name, value in whole.items() if value is not None}


def write(path: Path, samples: Sequence[dict[str, Any]]) -> Path:
    """Write one shard, compressed if its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path)) as writer:
        for one in samples:
            writer.write(one)
    return path


def write_numbers(folder: Path, *shards: Sequence[int], suffix: str = "tar") -> str:
    """Write shards train-0, train-1, … of these numbers and return what names them all."""
    for place, numbers in enumerate(shards):
        write(folder / f"train-{place}.{suffix}", [sample(number) for number in numbers])
    return f"{folder}/train-{{0..{len(shards) - 1}}}.{suffix}"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        self.server.seen.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder on this machine: its URL, and the requests as they come in."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        server.seen = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", server.seen  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()
