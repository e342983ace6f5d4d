"""Clips rendered from still images: what a frame shows, what the side file says, and what is refused."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.demo import clip
from edgedistill.demo.clip import ClipOptions, FrameTruth, Truth, camera_path, image_order, read_truth, render_clip, streaming_accuracy
from edgedistill.errors import DataError, SourceError

SHORT = ClipOptions(width=320, height=240, seconds=2.0, fps=15.0, seed=3)
CLEAN = ClipOptions(
    width=320, height=240, seconds=2.0, fps=15.0, tilt_deg=0, blur_sigma_px=(0, 0), noise_sigma=(0, 0), gain=(1, 1), offset=(0, 0)
)
GREEN_BGR = (20, 200, 40)


def squares(count: int, *, size: int = 28, color_bgr: tuple[int, int, int] = GREEN_BGR) -> np.ndarray:
    """Return images that are one colour all over, so that the object's edges can be found in a frame."""
    return np.full((count, size, size, 3), color_bgr, np.uint8)


def render(folder: Path, images: np.ndarray, *, options: ClipOptions = SHORT, suffix: str = ".avi") -> tuple[Path, Truth]:
    """Render a clip whose image number i has the label i."""
    video = folder / f"clip{suffix}"
    truth = render_clip(images, range(len(images)), out_video=video, truth_file=folder / "truth.json", options=options)
    return video, truth


def frames_of(video: Path) -> list[np.ndarray]:
    """Decode all frames of a video."""
    capture = cv2.VideoCapture(str(video))
    frames = []
    while True:
        ok, frame = capture.read()
        if not ok:
            return frames
        frames.append(frame)


def truth_of(labels: list[int]) -> Truth:
    frames = [FrameTruth(frame_id=i, label=label, image_index=i) for i, label in enumerate(labels)]
    return Truth(schema=1, video="clip.avi", options=SHORT, frames=frames)


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_every_frame_decodes_at_the_size_and_rate_asked_for(tmp_path: Path, suffix: str) -> None:
    video, truth = render(tmp_path, squares(4), suffix=suffix)
    capture = cv2.VideoCapture(str(video))
    frames = frames_of(video)
    assert len(frames) == len(truth.frames) == SHORT.frames == 30
    assert {frame.shape for frame in frames} == {(240, 320, 3)}
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(15.0)


def test_the_default_clip_is_20_seconds_of_640_by_480_at_30_frames_a_second() -> None:
    options = ClipOptions()
    assert (options.width, options.height, options.fps, options.frames, options.frames_per_image) == (640, 480, 30.0, 600, 15)


def test_colour_and_position_of_the_object_are_those_of_the_path(tmp_path: Path) -> None:
    video, _ = render(tmp_path, squares(2), options=CLEAN)
    for frame, pose in zip(frames_of(video), camera_path(CLEAN), strict=True):
        middle = frame[round(pose.centre_y), round(pose.centre_x)].astype(int)
        assert np.abs(middle - GREEN_BGR).max() < 12
        rows, columns = np.nonzero(frame.max(axis=2) > 100)
        assert (columns.min() + columns.max()) / 2 == pytest.approx(pose.centre_x, abs=3)
        assert (rows.min() + rows.max()) / 2 == pytest.approx(pose.centre_y, abs=3)
        assert np.ptp(columns) == pytest.approx(pose.side, abs=4)


def test_each_image_is_shown_for_half_a_second_under_its_own_label(tmp_path: Path) -> None:
    shades = np.stack([np.full((8, 8, 3), 60 + 45 * index, np.uint8) for index in range(4)])
    options = ClipOptions(**{**{name: getattr(CLEAN, name) for name in CLEAN.__struct_fields__}, "seconds": 2.0, "fps": 16.0})
    video, truth = render(tmp_path, shades, options=options)
    for frame, pose, told in zip(frames_of(video), camera_path(options), truth.frames, strict=True):
        seen = int(frame[round(pose.centre_y), round(pose.centre_x)].mean())
        assert told.image_index == told.label == round((seen - 60) / 45)
    runs = [(label, len(list(group))) for label, group in itertools.groupby(truth.frames, key=lambda frame: frame.label)]
    assert [length for _, length in runs] == [8, 8, 8, 8]
    assert sorted(label for label, _ in runs) == [0, 1, 2, 3]


def test_the_side_file_reads_back_and_has_the_documented_keys(tmp_path: Path) -> None:
    video, truth = render(tmp_path, squares(3))
    assert read_truth(tmp_path / "truth.json") == truth
    tree = json.loads((tmp_path / "truth.json").read_text())
    assert tree["schema"] == 1
    assert tree["video"] == video.name
    assert [frame["frame_id"] for frame in tree["frames"]] == list(range(30))
    assert set(tree["frames"][0]) == {"frame_id", "label", "image_index"}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_clip(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 3), np.uint8)
    digests = []
    for run, seed in enumerate((3, 3, 4)):
        folder = tmp_path / str(run)
        video, _ = render(folder, images, options=ClipOptions(width=160, height=120, seconds=1.0, seed=seed))
        digests.append((hashlib.sha256(video.read_bytes()).hexdigest(), (folder / "truth.json").read_bytes()))
    assert digests[0] == digests[1]
    assert digests[0][0] != digests[2][0]
    assert digests[0][1] != digests[2][1]


@pytest.mark.parametrize("size", [(28, 28), (7, 31), (1, 1), (500, 300), (900, 1400)])
def test_images_of_any_size_stay_wholly_in_the_frame(tmp_path: Path, size: tuple[int, int]) -> None:
    images = np.full((1, *size, 3), 255, np.uint8)
    video, _ = render(tmp_path, images, options=CLEAN)
    for frame in frames_of(video):
        border = np.concatenate([frame[0], frame[-1], frame[:, 0], frame[:, -1]])
        assert border.max() < 60
        assert frame.max() > 200


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    tilt=st.floats(0, 45),
    scale=st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)).map(sorted).map(tuple),
    size=st.sampled_from([(640, 480), (480, 640), (64, 64)]),
)
def test_the_tilted_object_never_leaves_the_central_square(
    seed: int, tilt: float, scale: tuple[float, float], size: tuple[int, int]
) -> None:
    options = ClipOptions(width=size[0], height=size[1], seconds=3.0, seed=seed, tilt_deg=tilt, scale=scale)
    shorter = min(size)
    for pose in camera_path(options):
        assert scale[0] * shorter - 1e-6 <= pose.side <= scale[1] * shorter + 1e-6
        angle = math.radians(pose.tilt_deg)
        half = pose.side * (math.cos(angle) + abs(math.sin(angle))) / 2
        room = max(0.0, shorter / 2 - half) + 1e-6
        assert abs(pose.centre_x - (size[0] - 1) / 2) <= room
        assert abs(pose.centre_y - (size[1] - 1) / 2) <= room


def test_the_default_path_uses_its_ranges_and_is_smooth() -> None:
    options = ClipOptions()
    poses = np.array(camera_path(options))
    columns = dict(zip(clip.Pose._fields, poses.T, strict=True))
    for name, span in (
        ("blur_sigma", options.blur_sigma_px),
        ("noise_sigma", options.noise_sigma),
        ("gain", options.gain),
        ("offset", options.offset),
    ):
        assert span[0] <= columns[name].min() < columns[name].max() <= span[1]
        assert np.ptp(columns[name]) > 0.5 * (span[1] - span[0])
        assert np.abs(np.diff(columns[name])).max() < 0.06 * (span[1] - span[0])
    assert np.ptp(columns["side"]) > 0.2 * options.height
    assert np.ptp(columns["centre_x"]) > 0.1 * options.height
    for name in ("centre_x", "centre_y", "side"):
        assert np.abs(np.diff(columns[name])).max() < 0.02 * options.height


@pytest.mark.parametrize(
    ("changed", "measure", "rises"),
    [
        ({"noise_sigma": (8, 8)}, lambda frame: float(frame[110:130, 150:170, 1].std()), True),
        ({"offset": (30, 30)}, lambda frame: float(frame[0, 0].mean()), True),
        ({"gain": (0.5, 0.5)}, lambda frame: float(frame.max()), False),
        ({"blur_sigma_px": (6, 6)}, lambda frame: float(np.abs(np.diff(frame.astype(int), axis=1)).max()), False),
    ],
)
def test_each_disturbance_reaches_the_picture(tmp_path: Path, changed: dict, measure, rises: bool) -> None:
    plain_video, _ = render(tmp_path / "plain", squares(1), options=CLEAN)
    fields = {name: getattr(CLEAN, name) for name in CLEAN.__struct_fields__}
    video, _ = render(tmp_path / "changed", squares(1), options=ClipOptions(**{**fields, **changed}))
    before, after = measure(frames_of(plain_video)[5]), measure(frames_of(video)[5])
    assert after > before + 2 if rises else after < 0.75 * before


def test_no_image_comes_again_before_all_have_been_shown() -> None:
    options = ClipOptions(seconds=20.0)
    order = image_order(15, options)
    assert len(order) == 40
    assert sorted(order[:15]) == sorted(order[15:30]) == list(range(15))
    assert len(set(image_order(2000, options))) == 40


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([(0, 5), (1, 6), (2, 7), (3, 8)], (1.0, 4, 4, 4)),
        ([(0, 5), (3, 6)], (0.5, 1, 2, 4)),
        ([(2, None), (1, 6), (0, 5)], (2 / 3, 2, 3, 4)),
        ([], (None, 0, 0, 4)),
    ],
)
def test_streaming_accuracy_counts_only_frames_with_a_result(results: list, expected: tuple) -> None:
    assert tuple(streaming_accuracy(results, truth_of([5, 6, 7, 8]))) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([(4, 5)], "frame 4 is not in the clip, which has 4 frames"),
        ([(1, 6), (1, 6)], "frame 1 came twice"),
    ],
)
def test_results_that_are_not_of_this_clip_are_refused(results: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        streaming_accuracy(results, truth_of([5, 6, 7, 8]))


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (squares(0), [], "got 0 images and 0 labels"),
        (squares(2), [1], "got 2 images and 1 labels"),
        (squares(2)[..., 0], [0, 1], r"image 0 .* got shape \(28, 28\)"),
        (squares(2).astype(np.float32), [0, 1], "of float32"),
        ([np.zeros((0, 4, 3), np.uint8)], [0], r"got shape \(0, 4, 3\)"),
    ],
)
def test_images_that_do_not_fit_are_named(tmp_path: Path, images, labels: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        render_clip(images, labels, out_video=tmp_path / "clip.avi", truth_file=tmp_path / "truth.json", options=SHORT)
    assert not list(tmp_path.iterdir())


def test_an_unknown_video_format_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"clip\.webm.*must end in \.avi or \.mp4"):
        render(tmp_path, squares(1), suffix=".webm")
    assert not list(tmp_path.iterdir())


def test_a_failed_rendering_leaves_the_old_clip_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video, _ = render(tmp_path, squares(1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def cut_short(frames, path: Path, **settings: object) -> None:
        path.write_bytes(before[video.name][:4000])

    monkeypatch.setattr(clip, "_write_video", cut_short)
    with pytest.raises(SourceError, match=r"of 30 frames; make room on the disk"):
        render(tmp_path, squares(2))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_codec_that_opencv_lacks_is_an_error_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ClosedWriter:
        def __init__(self, *arguments: object) -> None:
            pass

        fourcc = staticmethod(cv2.VideoWriter.fourcc)

        def isOpened(self) -> bool:  # noqa: N802
            return False

    monkeypatch.setattr(clip.cv2, "VideoWriter", ClosedWriter)
    with pytest.raises(SourceError, match="cannot write MJPG video"):
        render(tmp_path, squares(1))


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"scale": (0.9, 0.5)}, "scale must be"),
        ({"scale": (0.5, 1.2)}, "reach 1 at most"),
        ({"scale": (0.0, 0.5)}, "above 0"),
        ({"gain": (1.2, 0.8)}, "gain must be"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(settings_: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipOptions(**settings_)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[" * 5000,
        '{"schema": 1, "options": ' + "9" * 5000 + "}",
        '{"schema": 2}',
        '{"schema": 1, "video": "a", "options": {}, "frames": []}',
        '{"schema": 1, "video": "a", "options": {"x": 1}, "frames": [{"frame_id": 0, "label": 0, "image_index": 0}]}',
    ],
)
def test_a_broken_side_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "truth.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"truth\.json.*render the clip again"):
        read_truth(path)


def test_a_missing_side_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the clip's truth .*nothing\.json"):
        read_truth(tmp_path / "nothing.json")
