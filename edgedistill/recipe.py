"""recipe.toml to frozen structs: what to distill, from whom, into what, and how it is exported.

All validation of what a person writes is here; what the names in a recipe stand for (models, losses, sources) is
looked up by `distill`. Paths in a recipe are relative to the recipe's file and absolute after `load`.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from edgedistill.errors import RecipeError
from edgedistill.overrides import apply_override
from edgedistill.validation import to_struct

Positive = Annotated[int, msgspec.Meta(ge=1)]
Natural = Annotated[int, msgspec.Meta(ge=0)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
AboveZero = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z")]
PerChannel = tuple[float, float, float]

#: The default normalization: pixel - 128, over 127.5, so that an int8 input tensor can hold camera bytes exactly.
HALF_MEAN: PerChannel = (128 / 255, 128 / 255, 128 / 255)
HALF_STD: PerChannel = (0.5, 0.5, 0.5)


class _Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frozen record that refuses unknown keys."""


class Augment(_Struct, frozen=True, kw_only=True):
    """Random changes of a training view; every default is 'none', so an empty table trains on the images as they are."""

    flip: bool = False
    """Mirror left and right with probability 1/2."""
    scale: tuple[AboveZero, AboveZero] = (1.0, 1.0)
    """Smallest and largest zoom; below 1 the object shrinks, above 1 it grows."""
    aspect: Annotated[float, msgspec.Meta(ge=1)] = 1.0
    """Largest ratio by which the width changes against the height, up or down."""
    shift: Fraction = 0.0
    """Largest shift in each direction, as a fraction of the side."""
    rotate_deg: Annotated[float, msgspec.Meta(ge=0, le=180)] = 0.0
    """Largest rotation to either side, in degrees."""
    brightness: Fraction = 0.0
    """Largest change of brightness, as a fraction of 255."""
    contrast: Fraction = 0.0
    """Largest change of contrast, as a fraction of itself."""
    blur: NotNegative = 0.0
    """Largest sigma of a Gaussian blur, in pixels of the view."""
    noise: Fraction = 0.0
    """Largest deviation of Gaussian noise, as a fraction of 255."""
    erase: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.0
    """Largest side of an erased square, as a fraction of the view's side."""
    border: Literal["reflect", "black"] = "reflect"
    """What lies outside of the image where a view shows it."""

    def __post_init__(self) -> None:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale must be [smallest, largest], got {list(self.scale)}")


class Data(_Struct, frozen=True, kw_only=True):
    """Which images: `embedded`, `torchvision:NAME` or `folder:PATH`."""

    source: str
    root: str | None = None
    """Where `torchvision:` keeps its downloads; ~/.cache/edgedistill by default."""
    validation: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.1
    """Fraction of each class's training images that is held out to watch the training."""
    train_limit: Positive | None = None
    """Use only this many training images, class-balanced."""
    test_limit: Positive | None = None
    """Use only this many test images, class-balanced."""
    views: Positive | None = None
    """Number of different views of an image: epoch e shows view e mod `views`, and the teacher answers each view once.
    By default every epoch has a view of its own."""
    view_size: Positive | None = None
    """Side of a view in pixels; by default the larger of the two networks' input sizes."""
    augment: Augment = Augment()


class Network(_Struct, frozen=True, kw_only=True):
    """A network: `timm:NAME`, `torchvision:NAME` or `python:MODULE:FUNCTION`."""

    model: str
    weights: str | None = None
    """`pretrained` (the library's own weights), the path of a safetensors file, or nothing."""
    args: dict[str, Any] = {}
    """Further arguments of the network's constructor."""
    input_size: Positive | None = None
    """Side of the square input in pixels; by default what the weights were trained at."""
    strides: list[Literal[1, 2]] | None = None
    """Strides of the convolutions that halve the image, first to last; [1] keeps the stem at full size for small images."""
    mean: PerChannel | None = None
    """Mean of the network's normalization, 0 to 1, RGB."""
    std: PerChannel | None = None
    """Deviation of the network's normalization, 0 to 1, RGB."""
    licence: str | None = None
    """SPDX name of the weights' licence, written into the provenance of a student."""

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std must be given together")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError(f"std must be above 0, got {list(self.std)}")


class Student(Network, frozen=True, kw_only=True):
    """The network to train, and how a camera frame is brought to its size on the device."""

    resize: Literal["stretch", "crop"] = "crop"
    interpolation: Literal["area", "linear", "nearest"] = "linear"
    """`area` sees every pixel of a camera frame, `linear` is some times faster; small inputs need `area`."""


class Term(_Struct, frozen=True, kw_only=True):
    """One term of the training loss."""

    loss: str
    weight: NotNegative = 1.0
    temperature: AboveZero = 1.0
    label_smoothing: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0


class Train(_Struct, frozen=True, kw_only=True):
    """The training budget and the optimizer."""

    epochs: Positive
    batch_size: Positive = 128
    optimizer: str = "adamw"
    lr: AboveZero = 1e-3
    weight_decay: NotNegative = 0.05
    warmup_epochs: NotNegative = 1.0
    clip_grad_norm: AboveZero | None = None
    workers: Natural = 0
    threads: Positive | None = None
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    accelerator: str = "auto"
    checkpoint_steps: Positive | None = None
    """Steps between checkpoints; by default one checkpoint an epoch."""


class Export(_Struct, frozen=True, kw_only=True):
    """What `edgedistill export` makes of the student, and what it may lose."""

    formats: tuple[Literal["onnx", "tflite"], ...] = ("onnx", "tflite")
    int8: bool = True
    calibration: Positive = 512
    """Real training images that the int8 ranges are taken from."""
    parity_images: Annotated[int, msgspec.Meta(ge=256)] = 2000
    """Held-out images that the files are compared on."""
    min_agreement: Fraction = 0.999
    """Smallest top-1 agreement of an fp32 file with the student in torch."""
    max_int8_drop: Fraction = 0.01
    """Largest loss of accuracy of an int8 file against the student in torch."""


class Recipe(_Struct, frozen=True, kw_only=True):
    """A whole recipe. Without `teacher` it is plain training, with cross-entropy as the only term."""

    name: Name
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 0
    data: Data
    student: Student
    teacher: Network | None = None
    distill: tuple[Term, ...] = (Term(loss="cross_entropy"),)
    train: Train
    export: Export = Export()

    def __post_init__(self) -> None:
        if not any(term.weight > 0 for term in self.distill):
            raise ValueError("distill needs at least one term with a weight above 0")

    def plain(self) -> Recipe:
        """Return the control: the same student, data, budget and seed, without a teacher."""
        return msgspec.structs.replace(self, teacher=None, distill=(Term(loss="cross_entropy"),))

    def smoke(self) -> Recipe:
        """Return the same recipe cut down to a few batches: every line of code runs, nothing is learned."""
        batch_size = min(self.train.batch_size, 16)
        return msgspec.structs.replace(
            self,
            data=msgspec.structs.replace(
                self.data,
                train_limit=min(self.data.train_limit or 8 * batch_size, 8 * batch_size),
                test_limit=min(self.data.test_limit or 256, 256),
            ),
            train=msgspec.structs.replace(self.train, epochs=1, batch_size=batch_size, warmup_epochs=0.0),
            export=msgspec.structs.replace(self.export, calibration=min(self.export.calibration, 32), parity_images=256),
        )


def load(path: str | os.PathLike[str], *, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, apply `key.path=value` overrides, and validate the whole."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the path
        raise RecipeError(f"cannot read the recipe {file}: {error}; give the path of a recipe.toml") from error
    return decode(text, where=str(file), folder=file.resolve().parent, overrides=overrides)


def decode(text: str, *, where: str = "recipe", folder: Path | None = None, overrides: Sequence[str] = ()) -> Recipe:
    """Decode a recipe's text; `folder` is what its relative paths start from."""
    try:
        tree = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: TOMLDecodeError, or an integer of thousands of digits
        raise RecipeError(f"{where} is not TOML: {error}") from error
    for override in overrides:
        apply_override(tree, override)
    try:
        recipe = to_struct(tree, Recipe)
    except ValueError as error:
        raise RecipeError(f"{where}: {error}") from error
    return recipe if folder is None else _with_absolute_paths(recipe, folder)


def encode(recipe: Recipe, *, relative_to: Path | None = None) -> str:
    """Return the recipe as TOML, every default written out; with `relative_to`, paths below or beside it stay relative."""
    tree = _drop_none(msgspec.to_builtins(recipe))
    if relative_to is not None:
        for table, key in (("teacher", "weights"), ("student", "weights")):
            value = tree.get(table, {}).get(key)
            if value and os.path.isabs(value):
                tree[table][key] = Path(os.path.relpath(value, relative_to)).as_posix()
    return msgspec.toml.encode(tree).decode()


def digest(recipe: Recipe) -> str:
    """Return the SHA-256 of everything in a recipe but the folders of this machine, as 64 hexadecimal digits."""
    same = msgspec.convert(msgspec.to_builtins(recipe), Recipe)  # 0 and 0.0 are one value, however they were given
    tree = msgspec.to_builtins(same, order="deterministic")
    for table in ("student", "teacher"):
        if tree[table] and tree[table]["weights"]:
            tree[table]["weights"] = Path(tree[table]["weights"]).name
    kind, _, path = tree["data"]["source"].partition(":")
    tree["data"] |= {"root": None} | ({"source": f"folder:{Path(path).name}"} if kind == "folder" else {})
    return hashlib.sha256(msgspec.json.encode(tree)).hexdigest()


def _with_absolute_paths(recipe: Recipe, folder: Path) -> Recipe:
    def absolute(path: str) -> str:
        return os.path.normpath(folder / os.path.expanduser(path))

    def with_weights(network: Any) -> Any:
        if network is None or network.weights in (None, "pretrained"):
            return network
        return msgspec.structs.replace(network, weights=absolute(network.weights))

    data = recipe.data
    if data.source.startswith("folder:"):
        data = msgspec.structs.replace(data, source=f"folder:{absolute(data.source.removeprefix('folder:'))}")
    if data.root is not None:
        data = msgspec.structs.replace(data, root=absolute(data.root))
    return msgspec.structs.replace(recipe, data=data, student=with_weights(recipe.student), teacher=with_weights(recipe.teacher))


def _drop_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _drop_none(item) for key, item in value.items() if item is not None}
    return [_drop_none(item) for item in value] if isinstance(value, list | tuple) else value
