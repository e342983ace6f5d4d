"""The flags of `camera`: one table for the device's command line and, passed through, for `edgedistill camera`."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edgedistill.errors import OutputError

if TYPE_CHECKING:
    from edgedistill.runtime.camera_command import CameraOptions
    from edgedistill.runtime.mqtt import MqttOptions
    from edgedistill.runtime.recording import RecordOptions
    from edgedistill.runtime.serve import ServeOptions
    from edgedistill.runtime.sources import Wishes

SOURCE_HELP = (
    "0, /dev/video0, usb:SERIAL, picamera:0, rtsp://, http:// (MJPEG or snapshot), gst:PIPELINE, a video, a folder or glob of images, "
    "- (raw BGR frames), test://pattern; give it again for several cameras; default: 0"
)
Number = TypeVar("Number", int, float)
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def add_flags(camera: argparse.ArgumentParser) -> None:
    """Add all flags of `camera`, in groups."""
    _add_sources(camera.add_argument_group("what to look at"))
    _add_engine(camera.add_argument_group("what to run"))
    _add_results(camera.add_argument_group("what to write"))
    _add_events(camera.add_argument_group("event recording"))
    _add_network(camera.add_argument_group("network"))
    ends = camera.add_argument_group("when to end")
    ends.add_argument("--duration", type=positive_float, metavar="S", help="end after S seconds")
    ends.add_argument("--frames", type=positive_int, metavar="N", help="end after N frames")


def _add_sources(group: Any) -> None:
    group.add_argument("--source", action="append", metavar="SOURCE", help=SOURCE_HELP)
    group.add_argument("--width", type=positive_int, metavar="PIXELS", help="width to ask a camera for; needed for -")
    group.add_argument("--height", type=positive_int, metavar="PIXELS", help="height to ask a camera for; needed for -")
    group.add_argument("--fps", type=positive_float, metavar="N", help="frames a second to ask a camera or a snapshot address for")
    group.add_argument("--rotate", type=int, choices=(0, 90, 180, 270), default=0, help="turn frames clockwise; default: 0")
    group.add_argument("--flip", choices=("none", "horizontal", "vertical", "both"), default="none", help="mirror frames; default: none")
    group.add_argument("--roi", metavar="X,Y,W,H", help="look at this part only: pixels, or four fractions of the frame's sides")
    group.add_argument("--wait", action="store_true", help="wait for sources that are not there yet; without it that is an error")


def _add_engine(group: Any) -> None:
    add_engine_flags(group)
    group.add_argument("--threads", type=threads, metavar="N", help="threads of the interpreter; default: one a core, four at most")
    group.add_argument("--top-k", type=positive_int, default=1, metavar="K", help="classes in a result; default: 1")
    group.add_argument("--threshold", type=fraction, default=0.0, metavar="P", help="smallest probability to report, 0 to 1; default: 0")


def add_engine_flags(group: Any) -> None:
    """Add the flags that choose a model file and an interpreter."""
    group.add_argument("--file", help="a model file of the bundle, or FORMAT-PRECISION such as tflite-int8")
    group.add_argument("--engine", help="litert, tflite-runtime or onnxruntime; default: the first installed one that fits")


def _add_results(group: Any) -> None:
    group.add_argument(
        "--output",
        choices=("text", "jsonl", "csv", "none"),
        default="text",
        help="on stdout: lines to read, one JSON object a line, a table, or nothing; default: text",
    )
    group.add_argument("--save", type=Path, metavar="FILE", help="write the annotated video to FILE (.mp4 or .avi)")
    group.add_argument("--show", action="store_true", help="show the annotated frames in a window; q ends")


def _add_events(group: Any) -> None:
    group.add_argument("--record", type=Path, metavar="FOLDER", help="record events there")
    group.add_argument("--record-class", action="append", metavar="LABEL", help="a class that makes an event, again for more; default: all")
    group.add_argument("--record-above", type=fraction, default=0.8, metavar="P", help="an event begins at this probability; default: 0.8")
    group.add_argument("--record-below", type=fraction, metavar="P", help="and ends when below this one; default: 0.2 less")
    group.add_argument("--pre-roll", type=seconds, default=3.0, metavar="S", help="seconds to keep from before an event; default: 3")
    group.add_argument("--post-roll", type=seconds, default=2.0, metavar="S", help="seconds to go on after it; default: 2")
    group.add_argument(
        "--record-quota", type=byte_count, default=10**9, metavar="BYTES", help="most that events may take, such as 500M or 2G; default: 1G"
    )
    group.add_argument("--record-fps", type=positive_float, metavar="N", help="most frames a second to keep; default: all")
    group.add_argument(
        "--record-longest", type=positive_float, default=60.0, metavar="S", help="a longer event goes on in a new clip; default: 60"
    )
    group.add_argument("--record-as", choices=("clip", "stills"), default="clip", help="a clip, or its best picture; default: clip")


def _add_network(group: Any) -> None:
    group.add_argument(
        "--serve", metavar="[HOST:]PORT", help="live page, /metrics, /healthz and /readyz; on 127.0.0.1 unless a host is given"
    )
    group.add_argument("--token-file", type=Path, metavar="FILE", help="the token that visitors need; made up and told once if left out")
    group.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate (PEM) to serve by https")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="its key (PEM)")
    group.add_argument("--no-preview", action="store_true", help="serve no images, only figures")
    group.add_argument("--mqtt", metavar="URL", help="publish to a broker: mqtt://[USER@]HOST[:PORT][/TOPIC], or mqtts://")
    group.add_argument("--mqtt-password-file", type=Path, metavar="FILE", help="the password of that user")
    group.add_argument("--mqtt-ca", type=Path, metavar="FILE", help="certificate of the authority that the broker's is signed by")
    group.add_argument(
        "--mqtt-images", action="store_true", help="publish pictures too; without it only labels and counts leave the device"
    )


#: Flags that mean nothing without another one: that one, and the names of their values.
ONLY_WITH = {
    "record": ("record_class", "record_below", "record_fps"),
    "serve": ("token_file", "tls_cert", "tls_key", "no_preview"),
    "mqtt": ("mqtt_password_file", "mqtt_ca", "mqtt_images"),
}


def check_together(given: argparse.Namespace) -> None:
    """Raise OutputError for a flag without the one that it belongs to: somebody thinks that it protects what is not even served."""
    for needed, names in ONLY_WITH.items():
        alone = next((name for name in names if getattr(given, name)), None)
        if alone is not None and not getattr(given, needed):
            raise OutputError(f"--{alone.replace('_', '-')} does nothing without --{needed}: add that, or leave it out")


def options_of(given: argparse.Namespace) -> CameraOptions:
    """Return the flags as options; what is wrong with them beyond their form is raised by the parts that use them."""
    from edgedistill.runtime.camera import LoopOptions
    from edgedistill.runtime.camera_command import CameraOptions

    check_together(given)
    return CameraOptions(
        sources=tuple(given.source or ("0",)),
        wishes=_wishes(given),
        wait=given.wait,
        file=given.file,
        engine=given.engine,
        threads=given.threads,
        top_k=given.top_k,
        threshold=given.threshold,
        output=given.output,
        save=given.save,
        show=given.show,
        record=_record(given) if given.record else None,
        serve=_serve(given) if given.serve else None,
        mqtt=_mqtt(given) if given.mqtt else None,
        loop=LoopOptions(frames=given.frames, duration_s=given.duration),
    )


def _wishes(given: argparse.Namespace) -> Wishes:
    from edgedistill.runtime.sources import Wishes, parse_roi

    roi = parse_roi(given.roi) if given.roi else None
    return Wishes(width=given.width, height=given.height, fps=given.fps, rotate=given.rotate, flip=given.flip, roi=roi)


def _record(given: argparse.Namespace) -> RecordOptions:
    from edgedistill.runtime.recording import RecordOptions

    return RecordOptions(
        folder=given.record,
        classes=tuple(given.record_class or ()),
        above=given.record_above,
        below=given.record_below,
        pre_roll_s=given.pre_roll,
        post_roll_s=given.post_roll,
        longest_s=given.record_longest,
        fps=given.record_fps,
        quota_bytes=given.record_quota,
        kind=given.record_as,
    )


def _serve(given: argparse.Namespace) -> ServeOptions:
    from edgedistill.runtime.serve import ServeOptions, parse_bind, read_token

    host, port = parse_bind(given.serve)
    token = read_token(given.token_file) if given.token_file else None
    return ServeOptions(host=host, port=port, token=token, tls_cert=given.tls_cert, tls_key=given.tls_key, preview=not given.no_preview)


def _mqtt(given: argparse.Namespace) -> MqttOptions:
    from edgedistill.runtime.mqtt import MqttOptions

    return MqttOptions(address=given.mqtt, password_file=given.mqtt_password_file, ca=given.mqtt_ca, images=given.mqtt_images)


def _number(text: str, kind: type[Number]) -> Number:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a {'whole number' if kind is int else 'number'}, got {text!r}") from None


def positive_int(text: str) -> int:
    """Return a whole number above 0."""
    value = _number(text, int)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number of 1 or more, got {text}")
    return value


def threads(text: str) -> int:
    """Return a whole number above 0."""
    if text == "auto":
        raise argparse.ArgumentTypeError("auto is for profile: run it once, then give camera the number that it found")
    return positive_int(text)


def positive_float(text: str) -> float:
    """Return a number above 0."""
    value = _number(text, float)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def seconds(text: str) -> float:
    """Return a number of 0 or more."""
    value = _number(text, float)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds, 0 or more, got {text}")
    return value


def fraction(text: str) -> float:
    """Return a number from 0 to 1."""
    value = _number(text, float)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text}")
    return value


def byte_count(text: str) -> int:
    """Return a number of bytes, which may end in k, M or G."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)([kmg]?)b?", text, re.IGNORECASE)
    if found is None or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"expected bytes such as 500M or 2G, got {text}")
    return int(float(found[1]) * UNITS[found[2].lower()])
