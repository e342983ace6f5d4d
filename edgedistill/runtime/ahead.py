"""Preprocessing ahead of its turn: in the threads that capture, while the network runs on the frame before."""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

import cv2
import numpy as np

from edgedistill.bundle import ModelFile, Preprocess
from edgedistill.errors import DataError
from edgedistill.preprocess import Filling, Preprocessor


class Place:
    """Memory for one frame as a file's input tensor takes it, and what writes it there."""

    def __init__(self, spec: Preprocess, model: ModelFile) -> None:
        self.tensor = np.empty(model.input.shape, model.input.dtype)
        self.written = 0  # how often something was written here, or begun to be
        self._preprocess, self._filling = Preprocessor(spec), Filling(model)

    def write(self, frame_bgr: np.ndarray) -> None:
        """Preprocess a frame into `tensor`."""
        self.written += 1
        self._filling.fill(self._preprocess(frame_bgr, self._filling.pixels(self.tensor)), self.tensor)


class Prepared(NamedTuple):
    """A frame, ready to be copied into the input tensor of `model`; valid until it is given back.

    `took_ms` is how long that took, `place` is whose memory it lies in, `written` that one's count by then.
    """

    model: ModelFile
    place: Place
    took_ms: float
    written: int

    def fits(self, model: ModelFile) -> bool:
        """Return whether it is for this file, and still there: a frame may be kept for longer than its place."""
        return self.model is model and self.written == self.place.written


class Ahead:
    """Prepares frames for one model file in memory that is used again; several threads and sources may.

    A source has three under way at most, as long as each is given back: in the making, in its slot, and with the reader.

    Args:
        spec: the bundle's `manifest.input`.
        model: the file that runs, an engine's `model`.
    """

    def __init__(self, spec: Preprocess, model: ModelFile) -> None:
        self._spec, self._model = spec, model
        self._free: deque[Place] = deque()  # its `append` and `pop` need no lock

    def __call__(self, frame_bgr: np.ndarray) -> Prepared | None:
        """Prepare a frame; None for what is no frame, which the loop refuses in its turn."""
        began_s = time.perf_counter()
        place = self._one()
        try:
            place.write(frame_bgr)
        except (DataError, cv2.error):
            self._free.append(place)
            return None
        return Prepared(self._model, place, (time.perf_counter() - began_s) * 1e3, place.written)

    def give_back(self, prepared: Prepared) -> None:
        """Let the memory be used again."""
        self._free.append(prepared.place)

    def _one(self) -> Place:
        try:
            return self._free.pop()
        except IndexError:
            return Place(self._spec, self._model)
