"""The loop of MediaPipe's Raspberry Pi sample for image classification, written anew after what it does.

Read, to RGB, `classify_async` in live-stream mode, the results by a callback; what comes while the network is busy is dropped by
MediaPipe without a word. In its favour, its window, its mirroring and its drawing are left out.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from given import given
from measured import Measured
from mediapipe.tasks import python
from mediapipe.tasks.python import vision
from mediapipe_images import VERSION, images

arguments = given()
found = Measured(stamped=arguments.stamped, seconds=arguments.seconds)
waiting: dict[int, np.ndarray] = {}
lock = threading.Lock()


def take(result: Any, image: Any, timestamp_ms: int) -> None:
    with lock:
        frame_bgr = waiting.pop(timestamp_ms)
        for older in [one for one in waiting if one < timestamp_ms]:
            del waiting[older]
    found.result(frame_bgr)


options = vision.ImageClassifierOptions(
    base_options=python.BaseOptions(model_asset_path=arguments.model),
    running_mode=vision.RunningMode.LIVE_STREAM,
    max_results=5,
    result_callback=take,
)
before_ms = 0
with vision.ImageClassifier.create_from_options(options) as classifier:
    for frame_bgr, image in images(arguments.source, found):
        before_ms = max(before_ms + 1, time.time_ns() // 1_000_000)  # two frames of one millisecond would be refused
        with lock:
            waiting[before_ms] = frame_bgr
        classifier.classify_async(image, before_ms)
found.tell(version=VERSION)
