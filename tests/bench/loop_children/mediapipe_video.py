"""MediaPipe's ImageClassifier in video mode, one call a frame, as its documentation shows it."""

from __future__ import annotations

from given import given
from measured import Measured
from mediapipe.tasks import python
from mediapipe.tasks.python import vision
from mediapipe_images import VERSION, images

arguments = given()
found = Measured(stamped=arguments.stamped, seconds=arguments.seconds)
options = vision.ImageClassifierOptions(
    base_options=python.BaseOptions(model_asset_path=arguments.model), running_mode=vision.RunningMode.VIDEO, max_results=1
)
with vision.ImageClassifier.create_from_options(options) as classifier:
    for number, (frame_bgr, image) in enumerate(images(arguments.source, found), start=1):
        classifier.classify_for_video(image, number * 33)
        found.result(frame_bgr)
found.tell(version=VERSION)
