"""A video clip with a known answer for every frame, rendered from still images: what the demo's camera looks at.

Each image is shown for a while as an object in front of a camera: moving, scaled, tilted, blurred, noisy and under
changing light, always wholly inside the frame's central square, which is what a classifier with a centred crop sees.
Everything follows from the seed. Running the camera loop over the clip is `runtime`'s business.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import cv2
import msgspec
import numpy as np

from edgedistill.bundle import write_atomically
from edgedistill.errors import DataError, SourceError

CODECS = {".avi": "MJPG", ".mp4": "mp4v"}
NOISE_MARGIN_PX = 64
EDGE_PX = 2

Positive = Annotated[int, msgspec.Meta(ge=1)]
AboveZero = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Range = tuple[NotNegative, NotNegative]


class _Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frozen record that refuses unknown keys."""


class ClipOptions(_Struct, frozen=True, kw_only=True):
    """How a clip looks; a pair is the smallest and the largest value that the smooth changes reach."""

    width: Positive = 640
    height: Positive = 480
    fps: AboveZero = 30.0
    seconds: AboveZero = 20.0
    seconds_per_image: AboveZero = 0.5
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    scale: Range = (0.55, 0.90)
    """Longer side of the image, as a fraction of the frame's shorter side."""
    tilt_deg: Annotated[float, msgspec.Meta(ge=0, le=45)] = 5.0
    """Largest rotation to either side, in degrees."""
    blur_sigma_px: Range = (0.4, 5.0)
    """Deviation of the Gaussian blur, in pixels of the frame."""
    noise_sigma: Range = (2.0, 10.0)
    """Deviation of the sensor noise, in grey levels."""
    gain: Range = (0.65, 1.15)
    """Factor of brightness."""
    offset: Range = (0.0, 14.0)
    """Grey levels added to everything, black included."""

    def __post_init__(self) -> None:
        for name in ("scale", "blur_sigma_px", "noise_sigma", "gain", "offset"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must be (smallest, largest), got {(low, high)}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must lie above 0 and reach 1 at most, got {self.scale}")

    @property
    def frames(self) -> int:
        """The number of frames in the clip."""
        return max(1, round(self.seconds * self.fps))

    @property
    def frames_per_image(self) -> int:
        """The number of frames for which an image is shown."""
        return max(1, round(self.seconds_per_image * self.fps))


class FrameTruth(_Struct, frozen=True, kw_only=True):
    """What a frame shows: its number from 0, the class of the image, and the image's index in the set it came from."""

    frame_id: Annotated[int, msgspec.Meta(ge=0)]
    label: Annotated[int, msgspec.Meta(ge=0)]
    image_index: Annotated[int, msgspec.Meta(ge=0)]


class Truth(_Struct, frozen=True, kw_only=True):
    """The side file of a clip."""

    schema: Literal[1]
    video: str
    options: ClipOptions
    frames: Annotated[list[FrameTruth], msgspec.Meta(min_length=1)]


class Pose(NamedTuple):
    """Where the object is in one frame, and how the camera sees it; lengths in pixels of the frame."""

    centre_x: float
    centre_y: float
    side: float
    tilt_deg: float
    blur_sigma: float
    noise_sigma: float
    gain: float
    offset: float


class StreamingAccuracy(NamedTuple):
    """Top-1 accuracy (0 to 1) over the frames that got a result; None if none did."""

    accuracy: float | None
    correct: int
    answered: int
    frames: int


def render_clip(
    images_bgr: Sequence[np.ndarray] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    *,
    out_video: Path,
    truth_file: Path,
    options: ClipOptions | None = None,
) -> Truth:
    """Render a clip and its side file; both appear under their names only when they are complete.

    Args:
        images_bgr: (H, W, 3) uint8 each, of any size, on black; their order in the clip follows from the seed.
        labels: the class of each image.
        out_video: `.avi` (Motion JPEG) or `.mp4` (MPEG-4).
        truth_file: JSON, read by `read_truth`.
    """
    options = options or ClipOptions()
    _check_images(images_bgr, labels)
    codec = _codec(out_video)
    order = image_order(len(images_bgr), options)
    out_video.parent.mkdir(parents=True, exist_ok=True)
    temporary = out_video.with_name(f".{out_video.stem}.{os.getpid()}{out_video.suffix}")
    try:
        _write_video(_frames([images_bgr[index] for index in order], options), temporary, codec=codec, options=options)
        _check_video(temporary, frames=options.frames)
        os.replace(temporary, out_video)
    finally:
        temporary.unlink(missing_ok=True)
    frames = [_frame_truth(frame_id, order, labels, options) for frame_id in range(options.frames)]
    truth = Truth(schema=1, video=out_video.name, options=options, frames=frames)
    write_atomically(truth_file, msgspec.json.encode(truth) + b"\n")
    return truth


def read_truth(path: Path) -> Truth:
    """Read a clip's side file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Truth)
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, an integer of thousands of digits, msgspec's own
        raise DataError(f"cannot read the clip's truth {path}: {error}; render the clip again with: edgedistill demo") from error


def streaming_accuracy(results: Iterable[tuple[int, int | None]], truth: Truth) -> StreamingAccuracy:
    """Return the per-frame top-1 accuracy over the frames that got a result.

    Args:
        results: (frame id, class) of each result; a class of None, an answer below the threshold, counts as wrong.
    """
    label_of = {frame.frame_id: frame.label for frame in truth.frames}
    answers: dict[int, int | None] = {}
    for frame_id, class_id in results:
        if frame_id not in label_of or frame_id in answers:
            why = "came twice" if frame_id in answers else f"is not in the clip, which has {len(label_of)} frames"
            raise DataError(f"the result for frame {frame_id} {why}; pass the results of one run over {truth.video}")
        answers[frame_id] = class_id
    correct = sum(label_of[frame_id] == class_id for frame_id, class_id in answers.items())
    return StreamingAccuracy(correct / len(answers) if answers else None, correct, len(answers), len(label_of))


def image_order(images: int, options: ClipOptions) -> list[int]:
    """Return the index of each image that the clip shows, in order; no image comes again before all have been shown."""
    shown = math.ceil(options.frames / options.frames_per_image)
    rng = np.random.default_rng([options.seed, 0])
    rounds = [rng.permutation(images) for _ in range(math.ceil(shown / images))]
    return [int(index) for index in np.concatenate(rounds)[:shown]]


def camera_path(options: ClipOptions) -> list[Pose]:
    """Return the pose of every frame: smooth in time, the tilted image wholly inside the frame's central square."""
    rng = np.random.default_rng([options.seed, 1])
    seconds = np.arange(options.frames) / options.fps
    shorter = min(options.width, options.height)
    side = _between(_wave(rng, seconds), options.scale) * shorter
    tilt = options.tilt_deg * _wave(rng, seconds)
    extent = side * (np.cos(np.radians(tilt)) + np.abs(np.sin(np.radians(tilt))))
    room = np.maximum(0.0, (shorter - extent) / 2 - EDGE_PX)
    centre_x = (options.width - 1) / 2 + room * _wave(rng, seconds)
    centre_y = (options.height - 1) / 2 + room * _wave(rng, seconds)
    looks = [_between(_wave(rng, seconds), span) for span in (options.blur_sigma_px, options.noise_sigma, options.gain, options.offset)]
    columns = (centre_x, centre_y, side, tilt, *looks)
    return [Pose(*row) for row in np.stack(columns, axis=1).tolist()]


def _wave(rng: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    """Return a smooth wandering between -1 and 1: a slow and a slower oscillation."""
    periods, phases = rng.uniform([2.5, 5.0], [5.0, 11.0]), rng.uniform(0, 2 * np.pi, 2)
    slow, slower = (np.sin(2 * np.pi * seconds / period + phase) for period, phase in zip(periods, phases, strict=True))
    return 0.5 * slow + 0.5 * slower


def _between(wave: np.ndarray, span: Range) -> np.ndarray:
    low, high = span
    return low + (high - low) * (wave + 1) / 2


def _frames(images_bgr: list[np.ndarray], options: ClipOptions) -> Iterator[np.ndarray]:
    """Yield the frames, (height, width, 3) uint8 BGR."""
    rng = np.random.default_rng([options.seed, 2])
    noise_shape = (options.height + NOISE_MARGIN_PX, options.width + NOISE_MARGIN_PX, 3)
    unit_noise = rng.standard_normal(noise_shape, dtype=np.float32)
    side_px = max(1, round(options.scale[1] * min(options.width, options.height)))
    shown = [_at_largest(image, side_px) for image in images_bgr]
    for frame_id, pose in enumerate(camera_path(options)):
        top, left = (int(corner) for corner in rng.integers(0, NOISE_MARGIN_PX + 1, 2))
        noise = unit_noise[top : top + options.height, left : left + options.width]
        yield _photograph(shown[frame_id // options.frames_per_image], pose, noise)


def _photograph(image_bgr: np.ndarray, pose: Pose, unit_noise: np.ndarray) -> np.ndarray:
    """Return the frame that the camera sees; `unit_noise` is (height, width, 3) float32 of deviation 1."""
    height, width = unit_noise.shape[:2]
    rows, columns = image_bgr.shape[:2]
    middle = ((columns - 1) / 2, (rows - 1) / 2)
    matrix = cv2.getRotationMatrix2D(middle, pose.tilt_deg, pose.side / max(rows, columns))
    matrix[:, 2] += (pose.centre_x - middle[0], pose.centre_y - middle[1])
    scene = cv2.warpAffine(image_bgr, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    if pose.blur_sigma > 0:
        scene = cv2.GaussianBlur(scene, (0, 0), pose.blur_sigma)
    lit = cv2.convertScaleAbs(scene, alpha=pose.gain, beta=pose.offset)
    return cv2.scaleAdd(unit_noise, pose.noise_sigma, lit.astype(np.float32)).round().clip(0, 255).astype(np.uint8)


def _at_largest(image_bgr: np.ndarray, side_px: int) -> np.ndarray:
    """Return an image as large as it is ever shown, so that placing it in a frame only shrinks it."""
    factor = side_px / max(image_bgr.shape[:2])
    rows, columns = (max(1, round(length * factor)) for length in image_bgr.shape[:2])
    return cv2.resize(image_bgr, (columns, rows), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)


def _frame_truth(frame_id: int, order: list[int], labels: Sequence[int] | np.ndarray, options: ClipOptions) -> FrameTruth:
    index = order[frame_id // options.frames_per_image]
    return FrameTruth(frame_id=frame_id, label=int(labels[index]), image_index=index)


def _check_images(images_bgr: Sequence[np.ndarray] | np.ndarray, labels: Sequence[int] | np.ndarray) -> None:
    if len(images_bgr) == 0 or len(images_bgr) != len(labels):
        raise DataError(f"a clip needs images with one label each, got {len(images_bgr)} images and {len(labels)} labels")
    for index, image in enumerate(images_bgr):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise DataError(f"image {index} of the clip must be (H, W, 3) uint8 in BGR order, got shape {image.shape} of {image.dtype}")


def _codec(out_video: Path) -> str:
    if out_video.suffix not in CODECS:
        raise DataError(f"cannot write a clip named {out_video.name!r}: the name must end in {' or '.join(CODECS)}")
    return CODECS[out_video.suffix]


def _write_video(frames: Iterable[np.ndarray], path: Path, *, codec: str, options: ClipOptions) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), options.fps, (options.width, options.height))
    if not writer.isOpened():
        raise SourceError(f"OpenCV {cv2.__version__} cannot write {codec} video to {path}; install opencv-python-headless from its wheel")
    try:
        for frame in frames:
            writer.write(frame)
    finally:
        writer.release()


def _check_video(path: Path, *, frames: int) -> None:
    """Refuse a video that was cut short: OpenCV's writer keeps silent about a full disk."""
    capture = cv2.VideoCapture(str(path))
    found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    if found != frames:
        raise SourceError(f"{path} holds {found} of {frames} frames; make room on the disk and run again")
