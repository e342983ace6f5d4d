"""The files that the compared loops read: a video, and the network as ultralytics wants it."""

from __future__ import annotations

from pathlib import Path

import cv2
from entry import OUT, ROOT

from edgedistill import bundle
from edgedistill.runtime.pattern import draw_pattern

BUNDLE = ROOT / "export" / "garments-mobilenetv2"
#: Five seconds of work for the fastest loop: the speed of a shared machine changes from one second to the next.
FRAMES = 1500


def clip(folder: Path = OUT / "loops") -> Path:
    """Return a video of 640x480 JPEG frames; made on first use."""
    path = folder / f"clip-{FRAMES}.avi"
    if not path.exists():
        part = path.with_name("part.avi")
        writer = cv2.VideoWriter(str(part), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (640, 480))
        for number in range(FRAMES):
            writer.write(draw_pattern(number))
        writer.release()
        part.rename(path)
    return path


def for_ultralytics(folder: Path = OUT / "loops") -> Path:
    """Return the bundle's int8 ONNX file behind what ultralytics gives: float RGB from 0 to 1, channels first; made on first use.

    Three small operators at the beginning bring that back to bytes, channels last, and one at the end makes probabilities.
    """
    import onnx
    from onnx import TensorProto, compose, helper

    loaded = bundle.load(BUNDLE)
    path, spec = folder / "ultralytics.onnx", loaded.manifest.input
    if path.exists():
        return path
    inner = onnx.load(loaded.file_path(loaded.model("onnx-int8").file))
    sides = [1, 3, spec.height, spec.width]
    nodes = [
        helper.make_node("Mul", ["images", "levels"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["stored"], to=TensorProto.UINT8),
        helper.make_node("Transpose", ["stored"], ["nhwc"], perm=[0, 2, 3, 1]),
    ]
    before = helper.make_graph(
        nodes,
        "before",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("nhwc", TensorProto.UINT8, [1, spec.height, spec.width, 3])],
        [helper.make_tensor("levels", TensorProto.FLOAT, [], [255.0])],
    )
    first = helper.make_model(before, opset_imports=inner.opset_import, ir_version=inner.ir_version)
    both = compose.merge_models(first, inner, io_map=[("nhwc", inner.graph.input[0].name)])
    logits = both.graph.output[0]
    both.graph.node.append(helper.make_node("Softmax", [logits.name], ["probabilities"], axis=1))
    shape = [1, len(loaded.manifest.labels)]
    both.graph.output[0].CopyFrom(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, shape))
    names = dict(enumerate(loaded.manifest.labels))
    facts = {
        "task": "classify",
        "stride": "1",
        "batch": "1",
        "imgsz": f"[{spec.height}, {spec.width}]",
        "names": str(names),
        "channels": "3",
    }
    helper.set_model_props(both, facts)
    onnx.save(both, path)
    return path
