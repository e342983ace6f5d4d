"""What a student is refused for before a file of it is written: each of these would come out as a wrong file, or as no file at all."""

from __future__ import annotations

import re

import torch
from torch import fx, nn

from edgedistill.convert.graph.rewrite import aten
from edgedistill.errors import ConvertError

#: How far the graph may be from the student, as a part of the largest logit: far above rounding, far below another answer.
_ROUNDING = 1e-3
_BATCH = (
    "its operations depend on how many images there are. Write x.flatten(1) and x.shape[0] instead of len(x) and of fixed numbers, "
    "and take loops over the batch out of its forward"
)
_DATA = "take branches and loops over values out of its forward; torch.where and torch.clamp do the same for each value by itself"


def check_weights(student: nn.Module) -> None:
    """Raise ConvertError for a parameter or buffer that is not finite."""
    for name, tensor in (*student.named_parameters(), *student.named_buffers()):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ConvertError(f"the student's weights are broken: {name} has NaN or infinite values; train it again with a smaller lr")


def check_output(network: nn.Module, pixels_nhwc: torch.Tensor, classes: int) -> None:
    """Raise ConvertError unless the network returns finite logits (1, classes) for centred pixels (1, H, W, 3)."""
    size = "x".join(map(str, pixels_nhwc.shape[1:3]))
    try:
        with torch.inference_mode():
            output = network(pixels_nhwc)
    except Exception as error:  # the network is the user's
        text = first_line(error)
        raise ConvertError(f"the student fails on an image of {size}: {text}; give it the size it was trained at") from error
    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if shape != (1, classes):
        raise ConvertError(f"the student returns {shape} for one image, expected (1, {classes}), one logit a label; replace its head")
    if not torch.isfinite(output).all():
        raise ConvertError(f"the student answers an image of {size} with NaN or infinite logits; train it again with a smaller lr")


def check_operators(module: fx.GraphModule, layers: dict[str, str]) -> None:
    """Raise ConvertError for operators that no file can hold: shapes or numbers that depend on the image, chance, batch statistics."""
    for node in module.graph.nodes:
        if node.op != "call_function":
            continue
        where = described(node, layers)
        if _depends_on_data(node):
            raise ConvertError(f"the student cannot be written as a file: the size of what {where} gives depends on the image; {_DATA}")
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise ConvertError(f"the student cannot be written as a file: {where} gives random numbers; leave it out in evaluation mode")
        if node.target is aten.batch_norm.default and node.args[5]:
            raise ConvertError(
                f"the student cannot be written as a file: {where} takes mean and variance from the other images of a batch; "
                "train it with track_running_stats=True"
            )
    pixels = next(node for node in module.graph.nodes if node.op == "placeholder")
    if not any(user.target is not aten.sym_size.int for user in pixels.users):
        raise ConvertError("the student does not look at the image: its logits are constants; return what its layers compute")


def check_answers(module: fx.GraphModule, network: nn.Module, pixels_nhwc: torch.Tensor) -> None:
    """Raise ConvertError unless the graph answers all pixels (N, H, W, 3) at once like the network each image by itself."""
    with torch.inference_mode():
        expected = torch.cat([network(image) for image in pixels_nhwc.split(1)])
        found = module(pixels_nhwc)
    difference, largest = (float(value.abs().max()) for value in (found - expected, torch.stack([found, expected])))
    if not difference <= _ROUNDING * max(largest, 1e-6):
        raise ConvertError(
            f"the student answers an image differently alone and among others (logits up to {largest:.3g} differ by {difference:.3g}); "
            "a file sees one image at a time: take what mixes the images of a batch, or counts them, out of its forward"
        )


def described(node: fx.Node, layers: dict[str, str]) -> str:
    """Return an operator and the student's layer that it comes from, for messages: `aten.fft_fft2 (layer features.3)`."""
    layer = layers.get(node.name, "")
    return f"{operator(node)} ({f'layer {layer}' if layer else 'in its forward'})"


def operator(node: fx.Node) -> str:
    """Return an operator's name with its namespace and without its overload: `aten.conv2d`."""
    return ".".join(str(node.target).split(".")[:2])


def why_not_traced(error: Exception) -> str:
    """Return in one sentence why the tracer gave up and what to do about it, with the line of the student's code where it is known."""
    text = str(error)
    if "Constraints violated" in text or re.search(r"\bs\d+\b", text):
        return _BATCH
    if "data-dependent" in text or ".numpy()" in text or "unbacked" in text:
        return f"it branches on what it sees{_line_of(text)}; {_DATA}"
    return f"{first_line(error)}; its forward may only hold operations of torch, in an order that does not depend on the image"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text that says something, at most 300 letters; its class where there is none."""
    return next((line.strip()[:300] for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _line_of(text: str) -> str:
    found = re.search(r"The following call raised this error:\s+File \"[^\"]*\", line \d+, in \w+\s+(.+)", text)
    return f" at `{found[1].strip()}`" if found else ""


def _depends_on_data(node: fx.Node) -> bool:
    """Return whether an operator gives a number of the host's, or a tensor of a size that only a run tells."""
    if node.target in (aten.item.default, aten._local_scalar_dense.default):
        return True
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor):
        return False
    sizes = [size.node.expr for size in value.shape if isinstance(size, torch.SymInt)]  # type: ignore[unreachable, attr-defined]
    return any(str(symbol).startswith("u") for size in sizes for symbol in size.free_symbols)
